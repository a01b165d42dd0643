"""Results as tables of text, in the order of a report; `terminal`, `markdown` and `tidy` write them."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.report.beside import beside
from mnist_loop.report.lines import part_lines
from mnist_loop.report.model import Results, Sweep
from mnist_loop.report.tables.lines import table as line_table
from mnist_loop.report.tables.paired import paired
from mnist_loop.report.tables.side_by_side import side_by_side
from mnist_loop.report.tables.table import Column, Table
from mnist_loop.report.tables.throughput import throughput

MOST_SWEEPS = 50
LEFT_OUT = f"More than {MOST_SWEEPS} have no tables of their own here; `--format csv` has every measurement."

__all__ = ["Column", "Table", "of_sweep", "tables"]


def tables(results: Results) -> Iterator[Table]:
    """Yield the tables of a report: each sweep, sweeps beside each other, each comparison."""
    if len(results.sweeps) <= MOST_SWEEPS:
        for sweep in results.sweeps:
            yield from of_sweep(sweep)
    else:
        yield Table(f"{len(results.sweeps)} sweeps", (), (), notes=(LEFT_OUT,))
    yield from side_by_side(beside(results.sweeps))
    for comparison in results.comparisons:
        yield from paired(comparison)


def of_sweep(sweep: Sweep) -> Iterator[Table]:
    """Yield the throughput of a sweep, and the lines through the times of its parts."""
    yield throughput(sweep)
    lines = part_lines(sweep)
    if lines:
        yield line_table(("device", "part"), lines.items())
