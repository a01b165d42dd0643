"""The laws as pytest collects them: one item a law, ``mnist_loop::my_pkg.training:train::zero-grad-missing``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

from mnist_loop.bugs import BUGS
from mnist_loop.errors import UserError
from mnist_loop.pytest_plugin.trial import Trial
from mnist_loop.verification.laws.judge import ENDED

ROOT = "mnist_loop"  # what each node id begins with, so that xdist keeps the laws of a loop in one process if it can
STATE, TEXT = "loop law", "loop evidence"  # names of an item's properties: the summary and JUnit's XML show them

LAST_OUTPUT = 2000  # characters, of a loop that did not come back


class LawBroken(Exception):
    """The loop breaks the law. The message says how, why, and what to do."""


class Laws(pytest.Collector):
    """The laws that one loop is held to."""

    def __init__(self, *, trial: Trial, **kwargs: Any) -> None:
        super().__init__(name=trial.spec, nodeid=f"{ROOT}::{trial.spec}", **kwargs)
        self.trial = trial

    @classmethod
    def from_parent(cls, parent: pytest.Collector, *, trial: Trial) -> Laws:  # type: ignore[override]
        """Make the collector."""
        laws: Laws = super().from_parent(parent, trial=trial)
        return laws

    def collect(self) -> Iterable[pytest.Item]:
        """Return an item for each law, in the order of the catalogue."""
        for id_ in BUGS:
            item = LawItem.from_parent(self, name=id_)
            item.extra_keyword_matches.add(ROOT)
            if id_ in self.trial.expected:
                reason = self.trial.expected[id_].reason
                item.add_marker(pytest.mark.xfail(reason=reason, raises=LawBroken, strict=True))
            if self.config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group(ROOT))
            yield item


class LawItem(pytest.Item):
    """One law that the loop is held to."""

    parent: Laws

    def runtest(self) -> None:
        """Tell what became of the law; the first law that is asked for has the loop verified."""
        trial = self.parent.trial
        outcome = trial.outcome(self.name, self.nodeid)
        expected = None if self.config.getoption("runxfail") else trial.expected.get(self.name)
        self.user_properties += [(STATE, outcome.state), (TEXT, outcome.text)]
        if self.name in ENDED and outcome.state == "broken":
            self.add_report_section("call", "output of the loop", trial.verdict.output[-LAST_OUTPUT:])
        if outcome.state == "broken" or (expected is not None and outcome.state in ("cost", "info", "consequence")):
            raise LawBroken(outcome.text)
        if outcome.state == "consequence":
            pytest.skip(outcome.text)
        if outcome.state == "not run":
            if expected is not None:  # strict: what is expected has to be seen
                raise UserError(f"{expected.where}: {self.name}: expected to fail, but was not run: {outcome.text}")
            pytest.skip(f"not run: {outcome.text}")
        self.add_report_section("call", outcome.state, outcome.text)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """Return what is wrong, without a traceback through this plugin."""
        if isinstance(excinfo.value, LawBroken | UserError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **kwargs)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Return where the loop is written, and the law's id as title."""
        location = self.parent.trial.contract.location
        if location is None:
            return self.path, None, self.name
        return location.file, location.line - 1, self.name
