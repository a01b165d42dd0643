"""``pytest --watch``: every test that trains is watched, and fails where its training has a bug."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from mnist_loop.support.console import plain_text
from mnist_loop.verdict.settings import read_settings
from mnist_loop.verdict.text import page
from mnist_loop.verdict.verdict import Verdict
from mnist_loop.watching.hooks import Hooks
from mnist_loop.watching.summary import verdict_on
from mnist_loop.watching.watcher import Watcher

WATCHED, CLEAN = "watched training", "clean"  # an item's property; its value is this, or the ids of the bugs


class WatchedTests:
    """The plugin that ``--watch`` registers.

    Its hooks are in torch for the whole session: a test module may import a function of torch by name.
    """

    def __init__(self) -> None:
        self.settings = read_settings()
        self.hooks = Hooks()
        self.hooks.put_in()
        self.watcher: Watcher | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:  # noqa: ARG002  # by name
        """Watch one test from its set-up on."""
        self.watcher = Watcher()
        self.hooks.watch(self.watcher)
        try:
            return (yield)
        finally:
            self.hooks.watch(None)
            self.watcher = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Judge what was watched; a bug fails the test, unless it has failed by itself."""
        try:
            result = yield
        except BaseException:
            verdict = self._verdict(item, complete=False)
            if verdict is not None and verdict.diagnoses:
                item.add_report_section("call", "watched training", plain_text(page(verdict)))
            raise
        verdict = self._verdict(item, complete=True)
        if verdict is not None:
            told = plain_text(page(verdict))
            if verdict.unexpected():
                pytest.fail(told, pytrace=False)
            item.add_report_section("call", "watched training", told)
        return result

    def _verdict(self, item: pytest.Item, *, complete: bool) -> Verdict | None:
        """Return the verdict on a test that trained; None for one that did not."""
        watcher = self.watcher
        if watcher is None or not (watcher.log.backwards and watcher.log.optimizers):
            return None
        watcher.log.complete = complete
        verdict = verdict_on(watcher, item.nodeid)
        verdict.ignore = self.settings.ignore
        item.user_properties.append((WATCHED, " ".join(found.id for found in verdict.unexpected()) or CLEAN))
        return verdict

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how many tests trained, and what was found, from the reports alone: xdist runs the tests elsewhere."""
        results = [(report.nodeid, result) for report in _reports(terminalreporter) if (result := _result(report))]
        wrong = [(node, result) for node, result in results if result != CLEAN]
        terminalreporter.section("watched trainings")
        for node, result in wrong:
            terminalreporter.line(f"{node}: {result}", red=True)
        trained = f"{len(results)} test{'' if len(results) == 1 else 's'} trained"
        terminalreporter.line(f"{trained}, {len(wrong) or 'none'} of them with a bug")

    def pytest_unconfigure(self) -> None:
        """Take the hooks out."""
        self.hooks.take_out()


def _reports(reporter: pytest.TerminalReporter) -> list[Any]:
    reports = {
        report.nodeid: report
        for some in reporter.stats.values()
        for report in some
        if getattr(report, "when", "") == "call"
    }
    return list(reports.values())


def _result(report: Any) -> str | None:
    found = dict(report.user_properties).get(WATCHED)
    return None if found is None else str(found)
