"""One loop on trial in one run of pytest: bound when the run begins, verified when the first law asks."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_loop.errors import UserError
from mnist_loop.pytest_plugin.outcomes import Outcome, outcomes
from mnist_loop.support.device import resolve_device
from mnist_loop.verdict import expected
from mnist_loop.verdict.expected import Expected
from mnist_loop.verdict.report import report
from mnist_loop.verdict.snippet import Asked
from mnist_loop.verification.binding import intentions
from mnist_loop.verification.binding.contract import Contract, bind
from mnist_loop.verification.binding.target import title_of
from mnist_loop.verification.trial import Options, Verdict, verify


@dataclass
class Trial:
    """A loop and how to verify it.

    Attributes:
        spec: the text that names the loop.
        evaluate: the text that names what evaluates; None where it is looked for.
        declared: what the loop means to do, by name.
        options: how to verify, where not as usual.
        expected: the laws that it is known to break, by id.
        folder: where the texts are read from.
        contract: the loop, bound.
    """

    spec: str
    evaluate: str | None
    declared: Mapping[str, Any]
    options: Mapping[str, Any]
    expected: Mapping[str, Expected]
    folder: Path
    contract: Contract
    _error: Exception | None = field(default=None, init=False)
    _told_by: str | None = field(default=None, init=False)

    @property
    def header(self) -> str:
        """What is judged, in one line."""
        evaluation, found_by = self.contract.evaluation, self.contract.found_evaluate_by
        evaluates = "none" if evaluation is None else f"{title_of(evaluation.function)} ({found_by})"
        device = Options(**self.options).device
        return f"loop: {self.spec} · evaluation: {evaluates} · torch {torch.__version__} · {device}"

    @cached_property
    def verdict(self) -> Verdict:
        """What is found out about the loop; verified at the first use.

        Raises:
            UserError: the loop cannot be run at all.
        """
        # What pytest makes of a warning, an error say, must not decide what the loop does.
        with _inside(self.folder), warnings.catch_warnings():
            warnings.resetwarnings()
            return verify(self.spec, self.evaluate, Options(**self.options), **self.declared)

    def outcome(self, id: str, nodeid: str) -> Outcome:  # noqa: A002  # the catalogue's word
        """Return what became of a law, for the test item that asks.

        Where the loop cannot be verified, the first item to ask raises the reason, and the others are skipped.
        """
        if self._error is None:
            try:
                return self._outcomes[id]
            except Exception as error:  # noqa: BLE001  # kept, and raised below
                self._error, self._told_by = error, nodeid
        if nodeid != self._told_by:
            pytest.skip(f"not verified: see {self._told_by}")
        raise self._error

    @cached_property
    def _outcomes(self) -> dict[str, Outcome]:
        asked = Asked(loop=self.spec, evaluate=self.evaluate, declared=self.declared, options=self.options)
        found = report(self.verdict, asked, self.expected)
        if not self.verdict.held and not self.verdict.failed:  # that the loop came back is not enough
            why = next((row.reason for row in found.rows if row.reason and not row.bug.undecided), "it ran in no case")
            raise UserError(f"{self.spec} found, of which no law could be decided, expected one at least: {why}")
        return outcomes(found)


def begin(config: pytest.Config) -> Trial | None:
    """Bind the loop that the options name; None where its laws are not to be collected.

    Raises:
        pytest.UsageError: there is no such loop, it cannot be bound, or another option is wrong.
    """
    option = config.option
    if option.loop is None:
        # The ini-file's loop belongs to the whole suite: who runs one file of it is not to wait for the laws.
        given = config.args_source == pytest.Config.ArgsSource.ARGS
        option.loop = "" if given else config.getini("loop")
        option.loop_folder = str(config.rootpath)
    # A worker of xdist is handed these two with the other options, by the process that has decided them here.
    folder = Path(getattr(option, "loop_folder", config.invocation_params.dir))
    if not option.loop:
        return None
    try:
        with _inside(folder):
            declared = _declarations(option.loop_declare)
            known = {} if option.loop_expect_failures is None else expected.read(Path(option.loop_expect_failures))
            device = str(resolve_device(option.loop_device))
            contract = bind(option.loop, option.loop_evaluate, **declared)
    except UserError as error:
        raise pytest.UsageError(f"--loop: {error}") from None
    options = {"device": device, "random_cases": option.loop_cases, "timeout": option.loop_timeout}
    usual = Options()
    chosen = {name: value for name, value in options.items() if value not in (None, getattr(usual, name))}
    return Trial(option.loop, option.loop_evaluate, declared, chosen, known, folder, contract)


def _declarations(texts: list[str]) -> dict[str, Any]:
    """Read what is declared, and no more: the rest is as the loop declares it itself."""
    read = intentions.parse(texts)
    names = [text.partition("=")[0].strip().replace("-", "_") for text in texts]
    return {name: getattr(read, name) for name in names}


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder: a test may have gone to another one."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
