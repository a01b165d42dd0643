"""The loop that a run of pytest judges: bound when the run begins, verified when the first law asks."""

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
from mnist_loop.support.device import resolve_device
from mnist_loop.verdict.expected import Expected, read_expected
from mnist_loop.verdict.outcomes import Outcome, outcomes
from mnist_loop.verdict.settings import read_settings
from mnist_loop.verdict.verdict import Verdict
from mnist_loop.verification.binding.contract import Description
from mnist_loop.verification.binding.given import read_given
from mnist_loop.verification.binding.intentions import declared_for
from mnist_loop.verification.options import Options
from mnist_loop.verification.verify import describe, verify


@dataclass
class LoopUnderTest:
    """A loop and how to verify it.

    Attributes:
        spec: the text that names the loop.
        evaluate: the text that names what evaluates; None to look for it.
        declared: the intentions of the loop, by name.
        options: how to verify it.
        expected: the laws that it is known to break, by id.
        ignore: ids of the bugs that are silenced, each with the place that says so.
        folder: the working folder, which relative paths start from.
        description: what it takes, and where it is written.
    """

    spec: str
    evaluate: str | None
    declared: Mapping[str, Any]
    options: Options
    expected: Mapping[str, Expected]
    ignore: Mapping[str, str]
    folder: Path
    description: Description
    _error: Exception | None = field(default=None, init=False)
    _raised_by: str | None = field(default=None, init=False)

    @property
    def header(self) -> str:
        """What is judged, in one line."""
        evaluation, found_by = self.description.evaluate_title, self.description.found_evaluate_by
        evaluates = "none" if evaluation is None else f"{evaluation} ({found_by})"
        facts = (f"loop: {self.spec}", f"evaluation: {evaluates}", f"torch {torch.__version__}", self.options.device)
        return " · ".join(facts)

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on the loop, which is verified at the first use.

        Raises:
            UserError: the loop cannot be run at all.
        """
        # pytest's filters, which may make errors of warnings, must not change what the loop does.
        with _inside(self.folder), warnings.catch_warnings():
            warnings.resetwarnings()
            verdict = verify(self.spec, self.evaluate, self.options, **self.declared)
        verdict.expected, verdict.ignore = self.expected, self.ignore
        return verdict

    def outcome(self, id: str, nodeid: str) -> Outcome:  # noqa: A002  # the catalogue's word
        """Return the outcome of a law.

        If the loop cannot be verified, the first item that asks raises the reason, and the others are skipped.
        """
        if self._error is None:
            try:
                return self._outcomes[id]
            except Exception as error:  # noqa: BLE001  # raised below
                self._error, self._raised_by = error, nodeid
        if nodeid != self._raised_by:
            pytest.skip(f"not verified: see {self._raised_by}")
        raise self._error

    @cached_property
    def _outcomes(self) -> dict[str, Outcome]:
        verdict = self.verdict
        if not verdict.held and not verdict.failed:  # that the loop came back is not enough
            reasons = (law.reason for law in verdict.laws if law.reason and not law.bug.undecided)
            why = next(reasons, "it ran in no case")
            raise UserError(f"{self.spec} found, of which no law could be decided, expected at least one: {why}")
        return outcomes(verdict)


def bind_loop(config: pytest.Config) -> LoopUnderTest | None:
    """Bind the loop that the options name; return None if its laws are not to be collected.

    Raises:
        pytest.UsageError: there is no such loop, it cannot be bound, or another option is wrong.
    """
    option, named = config.option, "--loop"  # how the user named what is read
    if option.loop is None:
        named = "loop" if config.inipath is None else f"loop in {config.inipath.name}"
        # The loop of the ini-file is for a run of the whole suite, not of a part that the arguments name.
        given = config.args_source == pytest.Config.ArgsSource.ARGS
        option.loop = "" if given else config.getini("loop")
        option.loop_folder = str(config.rootpath)
    # A worker of xdist gets `loop` and `loop_folder` with the other options, as set here in the main process.
    folder = Path(getattr(option, "loop_folder", config.invocation_params.dir))
    if not option.loop:
        return None
    try:
        with _inside(folder):
            of_loop = named
            settings = read_settings()
            named = "--loop-declare" if option.loop_declare else of_loop
            declared = declared_for(settings, option.loop_declare)
            evaluate = declared.pop("evaluate", None)
            evaluate = evaluate if option.loop_evaluate is None else option.loop_evaluate
            file = option.loop_expect_failures
            named = "--loop-expect-failures"
            known = settings.expected if file is None else read_expected(Path(file))
            named = "--loop-device"
            device = str(resolve_device(option.loop_device))
            named = "--loop-give"
            give = read_given(option.loop_give) or None
            named = of_loop
            description = describe(option.loop, evaluate, Options(device=device, give=give), **declared)
    except UserError as error:
        raise pytest.UsageError(f"{named}: {error}") from None
    options = {"device": device, "give": give, "random_cases": option.loop_cases, "timeout": option.loop_timeout}
    chosen = Options(**{name: value for name, value in options.items() if value is not None})
    return LoopUnderTest(option.loop, evaluate, declared, chosen, known, settings.ignore, folder, description)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder, as a test may have changed the working folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
