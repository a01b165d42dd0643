"""The pytest plugin: ``pytest --loop my_pkg.training:train`` holds a training loop to the laws, one item a law.

pytest loads it wherever mnist_loop is installed. So it imports neither torch nor anything else of the package, and does
nothing, until a loop is named.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mnist_loop.pytest_plugin.trial import Trial
    from mnist_loop.verification.trial import Verdict

__all__ = ["verdict"]

TRIAL: pytest.StashKey[Trial] = pytest.StashKey()  # what goes on with the loop, where one is named


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options. Each begins with ``--loop``, to clash with no other plugin's."""
    add = parser.getgroup("loop", "mnist_loop: the laws of a training loop").addoption
    add("--loop", metavar="SPEC", help="training loop to hold to the laws: file.py:name or package.module:name")
    add("--loop-evaluate", metavar="SPEC", help="what evaluates, where it does not stand beside the loop")
    add(
        "--loop-declare",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what the loop means to do, e.g. clip=1.0; may be repeated",
    )
    add(
        "--loop-expect-failures",
        metavar="FILE",
        help="laws that the loop is known to break, a line each: `id: reason`; one that holds is an error",
    )
    add("--loop-cases", type=_count, metavar="N", help="random cases after the fixed ones (default 10)")
    add("--loop-device", default="cpu", metavar="NAME", help="where the loop trains (default cpu)")
    add("--loop-timeout", type=_seconds, metavar="S", help="seconds that one case may take (default 60)")
    parser.addini("loop", "training loop to hold to the laws where pytest is given no path; as --loop", default="")


@pytest.hookimpl(tryfirst=True)  # a bad spec is one line: before the header, and before xdist starts its workers
def pytest_sessionstart(session: pytest.Session) -> None:
    """Bind the loop that the options name, or refuse it."""
    config = session.config
    if config.getoption("--loop") or config.getini("loop"):
        from mnist_loop.pytest_plugin import trial

        begun = trial.begin(config)
        if begun is not None:
            config.stash[TRIAL] = begun


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what is judged."""
    trial = config.stash.get(TRIAL, None)
    return None if trial is None else trial.header


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Put the laws beside the files that the session collects: it needs none to have them."""
    report = yield
    trial = collector.config.stash.get(TRIAL, None)
    if trial is not None and isinstance(collector, pytest.Session):
        from mnist_loop.pytest_plugin.items import Laws

        report.result = [*(report.result or ()), Laws.from_parent(collector, trial=trial)]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell the diagnoses, and how many laws hold."""
    trial = config.stash.get(TRIAL, None)
    if trial is not None:
        from mnist_loop.pytest_plugin import summary

        summary.write(terminalreporter, trial)


@pytest.fixture(scope="session")
def verdict(pytestconfig: pytest.Config) -> Verdict:
    """The `mnist_loop.verification.trial.Verdict` on the loop that ``--loop`` names, for tests of one's own."""
    trial = pytestconfig.stash.get(TRIAL, None)
    if trial is None:
        pytest.skip("needs a training loop: name one with --loop")
    return trial.verdict


def _count(text: str) -> int:
    try:
        if int(text) >= 0:
            return int(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} found, expected a whole number of at least 0")


def _seconds(text: str) -> float:
    from mnist_loop.support.options import positive_float

    return positive_float(text)
