"""The laws as pytest collects them: one item a law, ``mnist_loop::my_pkg.training:train::zero-grad-missing``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

from mnist_loop.bugs import decided_by
from mnist_loop.errors import UserError
from mnist_loop.pytest_plugin.loop_under_test import LoopUnderTest
from mnist_loop.verdict.finding import ENDED

ROOT = "mnist_loop"  # the start of each node id; xdist can keep the laws of a loop in one process by it
STATE, TEXT = "loop law", "loop evidence"  # names of an item's properties, for the summary and for JUnit's XML

LAST_OUTPUT = 2000  # characters, of a loop that did not come back


class LawBroken(Exception):
    """The loop breaks the law. The message has the evidence and the fix."""


class Laws(pytest.Collector):
    """The laws that one loop is held to."""

    def __init__(self, *, loop: LoopUnderTest, **kwargs: Any) -> None:
        super().__init__(name=loop.spec, nodeid=f"{ROOT}::{loop.spec}", **kwargs)
        self.loop = loop

    @classmethod
    def from_parent(cls, parent: pytest.Collector, *, loop: LoopUnderTest) -> Laws:  # type: ignore[override]
        """Make the collector."""
        laws: Laws = super().from_parent(parent, loop=loop)
        return laws

    def collect(self) -> Iterable[pytest.Item]:
        """Return an item for each law, in the order of the catalogue."""
        for id_ in decided_by("verify"):
            item = LawItem.from_parent(self, name=id_)
            item.extra_keyword_matches.add(ROOT)
            if id_ in self.loop.expected:
                reason = self.loop.expected[id_].reason
                item.add_marker(pytest.mark.xfail(reason=reason, raises=LawBroken, strict=True))
            if self.config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group(ROOT))
            yield item


class LawItem(pytest.Item):
    """One law that the loop is held to."""

    parent: Laws

    def runtest(self) -> None:
        """Show the outcome of the law; the first item verifies the loop."""
        loop = self.parent.loop
        outcome = loop.outcome(self.name, self.nodeid)
        expected = None if self.config.getoption("runxfail") else loop.expected.get(self.name)
        self.user_properties += [(STATE, outcome.state), (TEXT, outcome.text)]
        if self.name in ENDED and outcome.state == "broken":
            self.add_report_section("call", "output of the loop", loop.verdict.output[-LAST_OUTPUT:])
        if outcome.state == "broken" or (expected is not None and outcome.state in ("cost", "info", "consequence")):
            raise LawBroken(outcome.text)
        if outcome.state in ("consequence", "ignored"):
            pytest.skip(outcome.text if outcome.state == "consequence" else f"ignored: {outcome.text}")
        if outcome.state == "not run":
            reason = outcome.text.replace("--evaluate", "--loop-evaluate")  # pytest's name of the option
            if expected is not None:  # strict: an expected failure must occur
                raise UserError(f"{expected.where}: {self.name}: expected to fail, but was not run: {reason}")
            pytest.skip(f"not run: {reason}")
        self.add_report_section("call", outcome.state, outcome.text)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """Return the message, without a traceback through this plugin."""
        if isinstance(excinfo.value, LawBroken | UserError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **kwargs)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Return where the loop is written, and the law's id as title."""
        description = self.parent.loop.description
        if description.file is None or description.lines is None:
            return self.path, None, self.name
        return description.file, description.lines[0] - 1, self.name
