"""The forest plot of a comparison: each ratio of times with its interval, the margin, and the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from mnist_loop.report.plots import comparison_findings, words
from mnist_loop.report.plots.ink import INK, MUTED, PAPER, SIDE, SMALL, WIDTH, sheet, text_width, write_beside
from mnist_loop.report.plots.plot import Plot
from mnist_loop.report.plots.ratios import COLOURS, FARTHEST, bounded_log, ratio_limits, set_ratio_axis, shade_margin
from mnist_loop.report.stored import CellResult, ComparisonResult
from mnist_loop.statistics.ratio import Ratio
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from mnist_loop.support import numbers

ROW = 19.0  # points
AIR = 0.4  # rows
MOST_HEADINGS, MOST_CONTROLS = 12, 12
MOST_ROWS = 36  # the table has all
MARKERS = {SpeedVerdict.SLOWER: "s", SpeedVerdict.FASTER: "o", SpeedVerdict.SAME: "D", SpeedVerdict.INCONCLUSIVE: "o"}


@dataclass(frozen=True)
class ForestRow:
    """One line: a cell, the control, or (where ``ratio`` is None) the heading of an arm."""

    label: str
    ratio: Ratio | None = None
    verdict: SpeedVerdict | None = None

    @property
    def figures(self) -> str:
        """The estimate and the ends of the interval."""
        if self.ratio is None:
            return ""
        low, high = (numbers.change(end).removesuffix("%") for end in (self.ratio.low, self.ratio.high))
        return f"{numbers.change(self.ratio.estimate)} [{low}, {high}]"


def forest_plots(comparison: ComparisonResult) -> list[Plot]:
    """Draw the plot; none where nothing was measured."""
    if not comparison.cells:
        return []
    rows, left_out = _rows(comparison)
    base = comparison_findings.arm_name(comparison, 0)
    finding = comparison_findings.comparison_finding(comparison)
    confidence = numbers.given_share(comparison.cells[0].ratio.confidence)
    reading = (
        f"Time of a {_part(comparison)} relative to {base}, with {confidence} intervals. Shaded: differences below "
        f"{numbers.given_share(comparison.margin)}, which do not matter. The control is a second copy of {base}."
    )
    if left_out:
        reading += f" {words.count(left_out, 'smaller difference')} left out: the table has them."
    left = SIDE + max(text_width(row.label, SMALL, "bold" if row.ratio is None else "normal") for row in rows) + 10
    figures = max(text_width(row.figures) for row in rows)
    right = SIDE + figures + 12 + text_width("INCONCLUSIVE", SMALL, "bold")
    page = sheet(finding, reading, ROW * (_places(rows)[-1] + 1) + 62, width=max(WIDTH, left + right + 200))
    axes = page.axes(left, 40, right + 12, 22)
    _draw(axes, rows, comparison.margin, figures)
    axes.set_xlabel(f"time relative to {base}", labelpad=5)
    for x, text, side in ((0.0, "\N{LEFTWARDS ARROW} faster", "left"), (1.0, "slower \N{RIGHTWARDS ARROW}", "right")):
        axes.annotate(
            text, (x, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points", ha=side, color=MUTED
        )
    alt = f"Forest plot. {finding}. " + "; ".join(
        f"{row.label}: {row.figures}{f', {row.verdict.value}' if row.verdict else ''}" for row in rows if row.ratio
    )
    return [
        Plot(words.file_name("ratios", comparison.file.stem), finding, reading, alt, page.figure, page.head, comparison)
    ]


def _part(comparison: ComparisonResult) -> str:
    parts = {cell.workload.part for cell in comparison.cells}
    return words.shorten(parts.pop()) if len(parts) == 1 else "workload"


def _rows(comparison: ComparisonResult) -> tuple[list[ForestRow], int]:
    """Return the rows, by arm and batch size, and the number of cells that are left out."""
    ranked = sorted(
        comparison.cells, key=lambda cell: (cell.verdict is SpeedVerdict.SAME, -abs(bounded_log(cell.ratio.estimate)))
    )
    chosen = sorted(ranked[:MOST_ROWS], key=lambda cell: (cell.arm, *_order(cell)))
    arms = list(dict.fromkeys(cell.arm for cell in chosen))
    headed = 1 < len(arms) <= MOST_HEADINGS
    rows: list[ForestRow] = []
    for before, cell in zip([None, *chosen], chosen, strict=False):
        if headed and (before is None or before.arm != cell.arm):
            rows.append(ForestRow(comparison_findings.arm_name(comparison, cell.arm)))
        arm = "" if headed or len(arms) == 1 else f"{comparison_findings.arm_name(comparison, cell.arm)}, "
        rows.append(ForestRow(f"{arm}{_label(cell, comparison)}", cell.ratio, cell.verdict))
    controls = {cell.workload: cell.control for cell in sorted(chosen, key=_order) if cell.control is not None}
    if controls:
        widest = sorted(controls, key=lambda work: -abs(bounded_log(controls[work].estimate)))[:MOST_CONTROLS]
        rows.append(ForestRow("control"))
        rows += [ForestRow(f"batch {work.batch_size}", controls[work]) for work in controls if work in widest]
    return rows, len(comparison.cells) - len(chosen)


def _places(rows: Sequence[ForestRow]) -> list[float]:
    """Return the place of each row, in rows from the top; headings have space above."""
    places = [0.0]
    for row in rows[1:]:
        places.append(places[-1] + (1.0 if row.ratio is not None else 1.0 + AIR))
    return places


def _order(cell: CellResult) -> tuple[str, str, int]:
    return cell.workload.part, cell.workload.data, cell.workload.batch_size


def _label(cell: CellResult, comparison: ComparisonResult) -> str:
    several = len({other.workload.part for other in comparison.cells}) > 1
    return f"{words.shorten(cell.workload.part)}, " * several + f"batch {cell.workload.batch_size}"


def _draw(axes: Axes, rows: Sequence[ForestRow], margin: float, figures: float) -> None:
    ratios = [row.ratio for row in rows if row.ratio is not None]
    ends = [bounded_log(end) for ratio in ratios for end in (ratio.low, ratio.estimate, ratio.high)]
    low, high = ratio_limits([*ends, math.log1p(margin), -math.log1p(margin)])
    set_ratio_axis(axes, low, high, across=False)
    shade_margin(axes, margin, across=False)
    places = _places(rows)
    axes.set_ylim(places[-1] + 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=3)
    for place, row in zip(places, rows, strict=True):
        heading = row.ratio is None
        weight, colour = ("bold", INK) if heading else ("normal", INK if row.verdict else MUTED)
        write_beside(axes, 0.0, -10, place, row.label, "right", weight=weight, color=colour)
        if row.ratio is not None:
            _interval(axes, place, row)
            write_beside(axes, 1.0, 14, place, row.figures, "left", color=colour)
        if row.verdict is not None:
            write_beside(axes, 1.0, 14 + figures + 12, place, row.verdict.value, "left", weight="bold")


def _interval(axes: Axes, place: float, row: ForestRow) -> None:
    """Draw an interval with its estimate, and an arrow where it leaves the axis."""
    assert row.ratio is not None
    colour = COLOURS[row.verdict] if row.verdict else MUTED
    low, middle, high = (bounded_log(value) for value in (row.ratio.low, row.ratio.estimate, row.ratio.high))
    axes.plot([low, high], [place, place], color=colour, linewidth=2.4, zorder=2)
    for end, arrow in ((low, "<"), (high, ">")):
        if abs(end) >= FARTHEST:
            axes.plot([end], [place], arrow, color=colour, markersize=6, clip_on=False, zorder=3)
    hollow = row.verdict in (None, SpeedVerdict.INCONCLUSIVE)
    axes.plot(
        [middle],
        [place],
        MARKERS[row.verdict] if row.verdict else "o",
        markersize=6.5,
        markerfacecolor=PAPER if hollow else colour,
        markeredgecolor=colour,
        markeredgewidth=1.6,
        zorder=4,
    )
