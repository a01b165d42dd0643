"""The sections of the page, with their plots and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mnist_loop.report import facts
from mnist_loop.report.contenders import put_side_by_side
from mnist_loop.report.page.headline import how_it_ended
from mnist_loop.report.plots import words
from mnist_loop.report.plots.comparison_findings import arm_name
from mnist_loop.report.tables import sweep_tables
from mnist_loop.report.tables.paired import comparison_tables
from mnist_loop.report.tables.side_by_side import side_by_side_tables
from mnist_loop.report.tables.table import number_of, text_of

if TYPE_CHECKING:
    from markupsafe import Markup

    from mnist_loop.report.plots import Plot
    from mnist_loop.report.stored import ComparisonResult, StoredResults, SweepResult
    from mnist_loop.report.tables.table import Table, Value

VERDICTS = {"SLOWER", "FASTER", "SAME", "INCONCLUSIVE"}
MOST_OPEN = 3  # sweeps whose tables are open at first; those of the others are folded


@dataclass(frozen=True)
class Figure:
    """A plot on the page: its id, its sentences, and the picture."""

    name: str
    finding: str
    reading: str
    picture: Markup


@dataclass(frozen=True)
class ShownValue:
    """A value of a table on the page: its text, the number that sorts it (None for none), and its verdict's class."""

    text: str
    number: float | None
    verdict: str


@dataclass(frozen=True)
class Grid:
    """A table on the page."""

    title: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[ShownValue]]
    caption: str
    notes: Sequence[str]
    is_open: bool = True


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own."""

    id: str
    title: str
    about: str
    figures: Sequence[Figure] = ()
    grids: Sequence[Grid] = ()
    facts: Sequence[tuple[str, str]] = field(default=())


def sections(results: StoredResults, plots: Sequence[tuple[Plot, Markup]]) -> list[Section]:
    """Return the comparisons, then all sweeps together."""
    left = {plot.name: (plot, picture) for plot, picture in plots}
    found = [_comparison(number, one, left) for number, one in enumerate(results.comparisons, start=1)]
    if results.sweeps:
        found.append(_sweeps(results.sweeps, _figures(list(left.values()))))
    return found


def _comparison(number: int, comparison: ComparisonResult, left: dict[str, tuple[Plot, Markup]]) -> Section:
    mine = [left.pop(name) for name, (plot, _) in list(left.items()) if plot.source is comparison]
    arms = [arm_name(comparison, place) for place, arm in enumerate(comparison.arms) if not arm.control]
    return Section(
        id=f"comparison-{number}",
        title=f"{words.join_words(arms[1:])} compared with {arms[0]}" if arms[1:] else arms[0],
        about=f"{how_it_ended(comparison)} Stored in {comparison.file.name}, {_when(comparison.when)}.",
        figures=_figures(mine),
        grids=[grid(table) for table in comparison_tables(comparison)],
    )


def _sweeps(sweeps: Sequence[SweepResult], figures: Sequence[Figure]) -> Section:
    shared = facts.split_facts([facts.sweep_facts(one) for one in sweeps]).shared
    several = len(sweeps) > 1
    grids = [grid(table) for table in side_by_side_tables(put_side_by_side(sweeps))] if several else []
    for place, one in enumerate(sweeps):
        grids += [grid(table, is_open=place < MOST_OPEN) for table in sweep_tables(one)]
    about = (
        "Each sweep was measured by itself, one after the other." if several else f"Measured {_when(sweeps[0].when)}."
    )
    return Section("sweeps", "Stored sweeps", about, figures, grids, list(shared.items()))


def _figures(plots: Sequence[tuple[Plot, Markup]]) -> list[Figure]:
    return [Figure(plot.name, plot.finding, plot.reading, picture) for plot, picture in plots]


def grid(table: Table, is_open: bool = True) -> Grid:
    """Return a table for the page."""
    columns = [(column.heading, column.numbers) for column in table.columns]
    rows = [[_shown(value) for value in row] for row in table.rows]
    return Grid(table.title, columns, rows, table.caption, table.notes, is_open)


def _shown(value: Value) -> ShownValue:
    text, number = text_of(value), number_of(value)
    if number is not None and not math.isfinite(number):
        number = None
    return ShownValue(text, number, text.lower() if text in VERDICTS else "")


def _when(moment: str) -> str:
    """Write a moment in ISO 8601 without its seconds."""
    return moment[:16].replace("T", " at ")
