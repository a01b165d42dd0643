"""The rounds of a comparison in the order of time, with those of the control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from matplotlib.axes import Axes

from mnist_loop.report.plots import comparison_findings, words
from mnist_loop.report.plots.ink import INK, MUTED, RULE, SIDE, SMALL, TEXT, Sheet, sheet, text_width
from mnist_loop.report.plots.plot import Plot
from mnist_loop.report.plots.ratios import COLOURS, ratio_limits, set_ratio_axis, shade_margin
from mnist_loop.report.stored import CellResult, ComparisonResult, Pair
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from mnist_loop.support import numbers

MOST_PLOTS = 4  # of one comparison: the largest differences
MOST_DOTS = 800  # of one series; beyond, a dot is the median of several rounds
OUTERMOST = (
    0.02  # share of the rounds that may lie beyond the axis on each side, so that outliers do not flatten the rest
)
PANEL, GAP = 104.0, 20.0  # points


@dataclass(frozen=True)
class Panel:
    """One series with its label and colour."""

    label: str
    pairs: Sequence[Pair]
    colour: str


def round_plots(comparison: ComparisonResult) -> list[Plot]:
    """Draw the cells of a comparison with the largest differences; cells that are SAME come last."""
    known = [cell for cell in comparison.cells if _finite(cell.pairs)]
    ranked = sorted(known, key=lambda cell: (cell.verdict is SpeedVerdict.SAME, -abs(_middle(_finite(cell.pairs)))))
    chosen = {id(cell) for cell in ranked[:MOST_PLOTS]}
    return [_plot(comparison, _sane(cell)) for cell in known if id(cell) in chosen]


def _plot(comparison: ComparisonResult, cell: CellResult) -> Plot:
    arm, base = comparison_findings.arm_name(comparison, cell.arm), comparison_findings.arm_name(comparison, 0)
    panels = [Panel(arm, cell.pairs, COLOURS[cell.verdict])]
    if cell.control_pairs:
        panels.append(Panel("control", cell.control_pairs, MUTED))
    finding = f"At batch {cell.workload.batch_size}, {_finding(cell, arm, base)}"
    together = max(_together(panel.pairs) for panel in panels)
    dot = "one round" if together == 1 else f"the median of {together} rounds in a row"
    reading = f"Each dot is {dot}, in the order of time; each line the median of one restart of the worker processes. "
    if len(panels) > 1:
        reading += f"The control is a second copy of {base}. "
    reading += f"Shaded: differences below {numbers.given_share(comparison.margin)}."
    page = sheet(finding, reading, len(panels) * (PANEL + GAP) + 36)
    low, high = _limits([panel.pairs for panel in panels], comparison.margin)
    for number, panel in enumerate(panels):
        axes = _panel(page, number, len(panels), [one.start for shown in panels for one in shown.pairs])
        set_ratio_axis(axes, low, high, across=True)
        shade_margin(axes, comparison.margin, across=True)
        _draw(axes, panel, low, high)
        if number == len(panels) - 1:
            axes.set_xlabel("seconds since the run started")
    axes = page.figure.axes[0]
    axes.set_title(f"time of a round relative to {base}", loc="left", size=SMALL, color=MUTED, pad=6)
    alt = f"Series of {words.count(len(cell.pairs), 'round')}. {finding}. " + "; ".join(
        f"{panel.label}: median {numbers.change(math.exp(_middle(panel.pairs)))}" for panel in panels
    )
    name = words.file_name("rounds", comparison.file.stem, arm, f"batch-{cell.workload.batch_size}")
    return Plot(name, finding, reading, alt, page.figure, page.head, comparison)


def _finding(cell: CellResult, arm: str, base: str) -> str:
    """Return the direction of the difference, the number of restarts that show it, and the control's largest."""
    if cell.verdict is SpeedVerdict.INCONCLUSIVE:
        first = f"{arm} cannot be told from {base}"
    elif cell.verdict is SpeedVerdict.SAME:
        first = f"{arm} stays as fast as {base}"
    else:
        way = 1 if cell.verdict is SpeedVerdict.SLOWER else -1
        middles = [_middle(pairs) for pairs in _generations(cell.pairs)]
        agree = sum(way * middle > 0 for middle in middles)
        what = "slower" if way > 0 else "faster"
        first = f"{arm} is {what} than {base} in {agree} of {words.count(len(middles), 'restart')}"
    if not cell.control_pairs:
        return first
    widest = max((_middle(pairs) for pairs in _generations(cell.control_pairs)), key=abs, default=0.0)
    return f"{first}; identical code differs by up to {numbers.share(math.expm1(min(abs(widest), 700.0)))}"


def _panel(page: Sheet, number: int, panels: int, starts: Sequence[float]) -> Axes:
    below = 36 + (panels - 1 - number) * (PANEL + GAP)
    axes = page.axes(62, below, SIDE + 92, page.body - below - PANEL)
    first, last = min(starts, default=0.0), max(starts, default=1.0)
    free = 0.02 * (last - first) or 0.5
    axes.set_xlim(first - free, last + free)
    axes.tick_params(length=3)
    if number < panels - 1:
        axes.tick_params(labelbottom=False)
    return axes


def _draw(axes: Axes, panel: Panel, low: float, high: float) -> None:
    together = _together(panel.pairs)
    for number, pairs in enumerate(_generations(panel.pairs)):
        if number:
            axes.axvline(pairs[0].start, color=RULE, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
        parts = [pairs[start : start + together] for start in range(0, len(pairs), together)]
        _dots(axes, [(median(one.start for one in part), _middle(part)) for part in parts], panel.colour, low, high)
        middle = min(max(_middle(pairs), low), high)
        axes.plot([pairs[0].start, pairs[-1].start], [middle, middle], color=panel.colour, linewidth=2.4, zorder=3)
    whole = _middle(panel.pairs)
    at = (1.0, (min(max(whole, low), high) - low) / (high - low))
    figure = numbers.change(math.exp(max(-700.0, min(whole, 700.0))))
    for text, offset, weight in ((_short(panel.label), 6, "bold"), (figure, -6, "normal")):
        axes.annotate(
            text,
            at,
            xycoords="axes fraction",
            xytext=(8, offset),
            textcoords="offset points",
            va="center",
            size=TEXT,
            weight=weight,
            color=INK,
        )


def _dots(axes: Axes, dots: Sequence[tuple[float, float]], colour: str, low: float, high: float) -> None:
    """Draw the rounds; those beyond the axis as triangles at its edge."""
    for marker, size, chosen in (
        ("o", 3.4, [(x, y) for x, y in dots if low < y < high]),
        ("v", 5.0, [(x, low) for x, y in dots if y <= low]),
        ("^", 5.0, [(x, high) for x, y in dots if y >= high]),
    ):
        x, y = [place for place, _ in chosen], [value for _, value in chosen]
        axes.plot(x, y, marker, color=colour, markersize=size, markeredgewidth=0, alpha=0.55, clip_on=False, zorder=2)


def _short(text: str) -> str:
    """Shorten a label until it fits beside the panel."""
    longest = len(text)
    while longest > 3 and text_width(words.shorten(text, longest), TEXT, "bold") > 92:
        longest -= 1
    return words.shorten(text, longest)


def _limits(series: Sequence[Sequence[Pair]], margin: float) -> tuple[float, float]:
    """Return limits that hold nearly all rounds, and all medians of restarts."""
    shown = [math.log1p(margin), -math.log1p(margin)]
    for pairs in series:
        ordered = sorted(pair.log_ratio for pair in pairs)
        out = int(OUTERMOST * len(ordered))
        shown += [*ordered[out : len(ordered) - out], *(_middle(part) for part in _generations(pairs))]
    return ratio_limits(shown)


def _sane(cell: CellResult) -> CellResult:
    """Return the cell without rounds that are not finite."""
    return replace(cell, pairs=_finite(cell.pairs), control_pairs=_finite(cell.control_pairs))


def _finite(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    return tuple(pair for pair in pairs if math.isfinite(pair.log_ratio) and math.isfinite(pair.start))


def _together(pairs: Sequence[Pair]) -> int:
    return -(-len(pairs) // MOST_DOTS) or 1


def _generations(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Return the rounds of each restart, in the order of time."""
    found: dict[int, list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: pair.start):
        found.setdefault(pair.generation, []).append(pair)
    return list(found.values())


def _middle(pairs: Sequence[Pair]) -> float:
    return median([pair.log_ratio for pair in pairs] or [0.0])
