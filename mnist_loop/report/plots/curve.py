"""One curve of throughput: medians, their intervals as a ribbon, and the fit T(b) = t0 + b / r."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from mnist_loop.report.plots.axes import can_be_drawn
from mnist_loop.report.step_times import step_time_fit
from mnist_loop.report.stored import Measurement

STEPS_OF_FIT = 60


@dataclass(frozen=True)
class Curve:
    """A curve to draw.

    Attributes:
        label: its name.
        measured: one measurement a batch size, by rising batch size.
        colour: of line, marks and ribbon.
        marker: of the medians; none where it is empty.
        strong: whether it has ribbon, fit and label.
    """

    label: str
    measured: Sequence[Measurement]
    colour: str
    marker: str
    strong: bool

    @property
    def points(self) -> list[Measurement]:
        """The measurements that can be on a logarithmic axis."""
        return [one for one in self.measured if can_be_drawn(one.median) and one.workload.batch_size > 0]

    @property
    def last(self) -> float | None:
        """The rate at the largest batch size."""
        return self.points[-1].median if self.points else None


def draw_curve(axes: Axes, curve: Curve) -> None:
    """Draw a curve."""
    points = curve.points
    if not points:
        return
    sizes = [one.workload.batch_size for one in points]
    medians = [one.median for one in points]
    if not curve.strong:
        axes.plot(sizes, medians, color=curve.colour, linewidth=1.0, zorder=1)
        return
    low = [min(one.low, one.median) if can_be_drawn(one.low) else one.median for one in points]
    high = [max(one.high, one.median) if can_be_drawn(one.high) else one.median for one in points]
    axes.fill_between(sizes, low, high, color=curve.colour, alpha=0.22, linewidth=0, zorder=2)
    if len(points) == 1:
        axes.plot([sizes[0]] * 2, [low[0], high[0]], color=curve.colour, linewidth=1.6, zorder=2)
    axes.plot(sizes, medians, color=curve.colour, marker=curve.marker, markersize=4.5, linewidth=1.7, zorder=3)
    line = step_time_fit(points)
    if line is not None:
        first, last = math.log(sizes[0]), math.log(sizes[-1])
        grid = [math.exp(first + (last - first) * step / STEPS_OF_FIT) for step in range(STEPS_OF_FIT + 1)]
        rates = [size / line.seconds(size) for size in grid]
        axes.plot(grid, rates, color=curve.colour, linewidth=0.9, linestyle=(0, (4, 2.5)), zorder=2)
