"""The section at the end of pytest's output: each diagnosis, and how many laws hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mnist_loop.pytest_plugin.items import ROOT, STATE, TEXT
from mnist_loop.pytest_plugin.loop_under_test import LoopUnderTest
from mnist_loop.verdict.text import REMINDER

WORDS = {"consequence": "broken in consequence"}
ALWAYS = ("held", "not run", "broken")  # counted even if there are none
STATES = (*ALWAYS, "consequence", "cost", "info", "ignored", "broken as expected")


def write_summary(reporter: pytest.TerminalReporter, loop: LoopUnderTest) -> None:
    """Write the section from the reports alone, as the items may have run in the processes of xdist."""
    laws = {report.nodeid: report for some in reporter.stats.values() for report in some if _is_law(report)}
    reports = {nodeid: report for nodeid, report in laws.items() if STATE in dict(report.user_properties)}
    if not laws:
        return
    reporter.section(f"loop: {loop.spec}")
    if not reports:
        reporter.line(f"nothing was run: none of {len(laws)} laws could be decided, see the failure", red=True)
        return
    shown = reporter.config.getoption("tbstyle") != "no"  # in the section of failures
    counts: Counter[str] = Counter()
    for report in reports.values():
        properties = dict(report.user_properties)
        state, lines = properties[STATE], properties[TEXT].splitlines()
        if hasattr(report, "wasxfail"):
            state = "broken as expected"
            reporter.line(f"{report.location[2]}, as expected: {report.wasxfail}")
        elif state == "broken":
            for line in [] if shown else lines[:2]:
                reporter.line(line, red=True)
        elif state in ("cost", "info"):  # a passed test is shown nowhere else
            for line in lines:
                reporter.line(line, yellow=True)
        counts[state] += 1
    told = [f"{counts[state]} {WORDS.get(state, state)}" for state in STATES if counts[state] or state in ALWAYS]
    reporter.line(f"laws: {', '.join(told)}")
    if not counts["broken"]:
        reporter.line(REMINDER)


def _is_law(report: Any) -> bool:
    return getattr(report, "when", "") == "call" and report.nodeid.startswith(f"{ROOT}::")
