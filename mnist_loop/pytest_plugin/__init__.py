"""The pytest plugin.

``pytest --loop my_pkg.training:train`` holds a training loop to the laws, one item a law; ``pytest --watch`` watches
every test that trains. pytest loads it wherever mnist_loop is installed. Until it is asked to it does nothing, and
imports neither torch nor the rest of the package.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mnist_loop.pytest_plugin.loop_under_test import LoopUnderTest
    from mnist_loop.verdict.verdict import Verdict

__all__ = ["verdict"]

LOOP: pytest.StashKey[LoopUnderTest] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each with the prefix ``--loop`` to avoid clashes with other plugins."""
    add = parser.getgroup("loop", "mnist_loop: the laws of a training loop").addoption
    add("--loop", metavar="SPEC", help="training loop to hold to the laws: file.py:name or package.module:name")
    add("--loop-evaluate", metavar="SPEC", help="what evaluates, if it is not found beside the loop")
    add(
        "--loop-declare",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an intention of the loop, e.g. clip=1.0; may be repeated",
    )
    add(
        "--loop-give",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a value for a parameter of the loop, or for a setting: gpu_id=0, args.warm=False; may be repeated",
    )
    add(
        "--loop-expect-failures",
        metavar="FILE",
        help="laws that the loop is known to break, a line each: `id: reason`; one that holds is an error",
    )
    add("--loop-cases", type=_count, metavar="N", help="random cases after the fixed ones (default 10)")
    add("--loop-device", default="cpu", metavar="NAME", help="where the loop trains (default cpu)")
    add("--loop-timeout", type=_seconds, metavar="S", help="seconds that one case may take (default 60)")
    add("--watch", action="store_true", help="watch every test that trains, and fail it where its training has a bug")
    parser.addini("loop", "training loop to hold to the laws where pytest is given no path; as --loop", default="")


@pytest.hookimpl(tryfirst=True)  # before the header, and before xdist starts its workers: a bad spec is one line
def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin to watch, and bind the loop that the options name, or refuse it."""
    config = session.config
    if config.getoption("--watch"):
        from mnist_loop.errors import UserError
        from mnist_loop.pytest_plugin.watched_tests import WatchedTests

        try:
            config.pluginmanager.register(WatchedTests(), "mnist_loop_watch")
        except UserError as error:
            raise pytest.UsageError(f"--watch: {error}") from None
    if config.getoption("--loop") or config.getini("loop"):
        from mnist_loop.pytest_plugin.loop_under_test import bind_loop

        loop = bind_loop(config)
        if loop is not None:
            config.stash[LOOP] = loop


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what is judged."""
    loop = config.stash.get(LOOP, None)
    return None if loop is None else loop.header


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Add the laws to what the session collects, with or without test files."""
    report = yield
    loop = collector.config.stash.get(LOOP, None)
    if loop is not None and isinstance(collector, pytest.Session):
        from mnist_loop.pytest_plugin.items import Laws

        report.result = [*(report.result or ()), Laws.from_parent(collector, loop=loop)]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the diagnoses, and how many laws hold."""
    loop = config.stash.get(LOOP, None)
    if loop is not None:
        from mnist_loop.pytest_plugin.summary import write_summary

        write_summary(terminalreporter, loop)


@pytest.fixture(scope="session")
def verdict(pytestconfig: pytest.Config) -> Verdict:
    """The `mnist_loop.Verdict` on the loop that ``--loop`` names, for tests of one's own."""
    loop = pytestconfig.stash.get(LOOP, None)
    if loop is None:
        pytest.skip("needs a training loop: name one with --loop")
    return loop.verdict


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
