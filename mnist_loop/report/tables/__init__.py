"""The tables of a report; `terminal`, `markdown` and `csv_text` write them."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.report.contenders import put_side_by_side
from mnist_loop.report.step_times import part_lines
from mnist_loop.report.stored import StoredResults, SweepResult
from mnist_loop.report.tables.paired import comparison_tables
from mnist_loop.report.tables.side_by_side import side_by_side_tables
from mnist_loop.report.tables.step_time_table import step_time_table
from mnist_loop.report.tables.table import Column, Table
from mnist_loop.report.tables.throughput import throughput_table

MOST_SWEEPS = 50
LEFT_OUT = f"More than {MOST_SWEEPS} have no tables of their own here; `--format csv` has every measurement."

__all__ = ["Column", "Table", "report_tables", "sweep_tables"]


def report_tables(results: StoredResults) -> Iterator[Table]:
    """Yield the tables of each sweep, of sweeps side by side, and of each comparison."""
    if len(results.sweeps) <= MOST_SWEEPS:
        for sweep in results.sweeps:
            yield from sweep_tables(sweep)
    else:
        yield Table(f"{len(results.sweeps)} sweeps", (), (), notes=(LEFT_OUT,))
    yield from side_by_side_tables(put_side_by_side(results.sweeps))
    for comparison in results.comparisons:
        yield from comparison_tables(comparison)


def sweep_tables(sweep: SweepResult) -> Iterator[Table]:
    """Yield the throughput of a sweep, and the fits of its parts' step times."""
    yield throughput_table(sweep)
    lines = part_lines(sweep)
    if lines:
        yield step_time_table(("device", "part"), lines.items())
