"""The logarithmic axis of ratios of times, on which twice and half as long are equally far from 1."""

from __future__ import annotations

import math
from collections.abc import Iterable

from matplotlib.axes import Axes

from mnist_loop.report.plots.ink import BAND, BLUE, GREEN, MUTED, POINTS_PER_INCH, RULE, VERMILLION, text_width
from mnist_loop.statistics.speed_verdict import SpeedVerdict

FARTHEST = math.log(10)  # ratios beyond ten times are shown as an arrow at the edge
LEAST = math.log(1.01)  # the axis always shows at least one percent, so that smaller noise looks small
COLOURS = {
    SpeedVerdict.SLOWER: VERMILLION,
    SpeedVerdict.FASTER: BLUE,
    SpeedVerdict.SAME: GREEN,
    SpeedVerdict.INCONCLUSIVE: MUTED,
}
STEPS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
FACTORS = ((1.0, 1.5, 2.0, 3.0, 5.0, 10.0), (1.0, 2.0, 5.0, 10.0), (1.0, 3.0, 10.0), (1.0, 10.0))
MOST_TICKS = 9


def bounded_log(ratio: float) -> float:
    """Return the logarithm, clipped to the axis; 0 for NaN."""
    if math.isnan(ratio):
        return 0.0
    if not 0 < ratio < math.inf:
        return math.copysign(FARTHEST, ratio - 1)
    return max(-FARTHEST, min(FARTHEST, math.log(ratio)))


def ratio_limits(logs: Iterable[float]) -> tuple[float, float]:
    """Return the ends of an axis that shows all of ``logs``, 0 among them, with a little room."""
    finite = [min(max(value, -FARTHEST), FARTHEST) for value in logs if math.isfinite(value)]
    low, high = min([-LEAST, *finite]), max([LEAST, *finite])
    free = 0.06 * (high - low)
    return low - free, high + free


def ratio_ticks(low: float, high: float, most: int = MOST_TICKS) -> list[tuple[float, str]]:
    """Return places and labels of ticks between two logarithms: in percent, or as factors where the axis is wide.

    There are at most ``most`` of them; where not even three fit, three.
    """
    if max(-low, high) > math.log(1.6):
        for factors in FACTORS:
            places = sorted({sign * math.log(factor) for factor in factors for sign in (1, -1)})
            marks = [(place, f"\N{MULTIPLICATION SIGN} {_factor(place)}") for place in places if low <= place <= high]
            if len(marks) <= most:
                break
        return marks
    span = math.exp(high) - math.exp(low)
    step = next((step for step in STEPS if span / step <= most), STEPS[-1])
    first, last = math.ceil((math.exp(low) - 1) / step), math.floor((math.exp(high) - 1) / step)
    return [(math.log1p(number * step), _percent(number * step, step)) for number in range(first, last + 1)]


def set_ratio_axis(axes: Axes, low: float, high: float, *, across: bool) -> None:
    """Set the limits and write the ticks: of the vertical axis where ratios run upwards, else of the horizontal one."""
    most = MOST_TICKS if across else int(_width(axes) / (text_width("+10%") + 8))
    places, labels = zip(*ratio_ticks(low, high, max(1, min(most, MOST_TICKS))), strict=True)
    if across:
        axes.set_ylim(low, high)
        axes.set_yticks(places, labels)
    else:
        axes.set_xlim(low, high)
        axes.set_xticks(places, labels)


def shade_margin(axes: Axes, margin: float, *, across: bool) -> None:
    """Shade the margin, and draw the line at ratio 1: horizontally where the axis of ratios is vertical."""
    width = math.log1p(min(max(margin, 0.0), 9.0))
    if across:
        axes.axhspan(-width, width, color=BAND, linewidth=0, zorder=0)
        axes.axhline(0, color=RULE, linewidth=1, zorder=1)
    else:
        axes.axvspan(-width, width, color=BAND, linewidth=0, zorder=0)
        axes.axvline(0, color=RULE, linewidth=1, zorder=1)


def _width(axes: Axes) -> float:
    whole = axes.get_figure().get_size_inches()[0] * POINTS_PER_INCH  # type: ignore[union-attr]
    return float(whole * axes.get_position().width)


def _factor(place: float) -> str:
    return f"{math.exp(place):.2g}"


def _percent(value: float, step: float) -> str:
    digits = 0 if step >= 0.01 else 1 if step >= 0.001 else 2
    return "0%" if abs(value) < step / 2 else f"{100 * value:+.{digits}f}%"
