"""The pytest plugin that prints the table of a sweep at the end of its run, as ``mnist-loop report`` does."""

from __future__ import annotations

import pytest

from mnist_loop.bench.suite import SWEEP
from mnist_loop.report.reading.node import InvalidResult
from mnist_loop.report.reading.sweep_file import read_sweep
from mnist_loop.report.tables.terminal import to_terminal
from mnist_loop.report.tables.throughput import throughput_table


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, where it is stored, and what is missing."""
    sweep = config.pluginmanager.get_plugin(SWEEP)
    if sweep is None or sweep.results is None:
        return
    terminalreporter.section("images per second", sep="=")
    try:
        table = throughput_table(read_sweep(sweep.results.document, sweep.results.path))
        terminalreporter.write(to_terminal([table], terminalreporter._tw._file))
    except InvalidResult as error:  # benchmarks of another kind alone
        terminalreporter.write_line(str(error))
    if sweep.problem:
        terminalreporter.write_line(f"not stored: {sweep.problem}", red=True)
    else:
        terminalreporter.write_line(f"stored in {sweep.results.path}")
