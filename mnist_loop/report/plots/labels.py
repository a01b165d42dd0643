"""Labels at the ends of curves, moved apart so that they do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mnist_loop.report.plots.ink import INK, LEADING, MUTED, POINTS_PER_INCH, SMALL


@dataclass(frozen=True)
class End:
    """The end of a curve, which gets a label.

    Attributes:
        y: as a share of the axes' height.
        text: the label.
        colour: of the line.
        strong: whether the label is in ink rather than grey.
    """

    y: float
    text: str
    colour: str
    strong: bool = True


def move_apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move increasing places apart to at least ``gap`` and into [low, high], with the least sum of squared shifts.

    With places less gap times rank the wish is that they do not fall, which is isotonic regression: neighbours that
    fall are pooled to their mean (Ayer and others, 1955). More than fit between the ends are squeezed evenly.
    """
    if len(wanted) > 1:
        gap = min(gap, (high - low) / (len(wanted) - 1))
    pools: list[tuple[float, int]] = []
    for rank, place in enumerate(wanted):
        mean, size = place - gap * rank, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), size + count
        pools.append((mean, size))
    last = len(wanted) - 1
    means = [min(max(mean, low), high - gap * last) for mean, size in pools for _ in range(size)]
    return [mean + gap * rank for rank, mean in enumerate(means)]


def room(axes: Axes) -> int:
    """Return how many labels fit beside the axes."""
    return int(_height(axes) / (SMALL * LEADING)) + 1


def label_ends(axes: Axes, ends: Sequence[End], reach: float = 12.0) -> None:
    """Write each label to the right of the axes, joined to its line by a thin leader of ``reach`` points."""
    points = axes.get_figure().get_size_inches()[0] * POINTS_PER_INCH * axes.get_position().width  # type: ignore[union-attr]
    ordered = sorted(ends, key=lambda end: end.y)
    places = move_apart([end.y for end in ordered], SMALL * LEADING / _height(axes), 0.0, 1.0)
    for end, place in zip(ordered, places, strict=True):
        across = [1 + 2 / points, 1 + (reach - 4) / points, 1 + reach / points]
        axes.add_line(
            Line2D(
                across, [end.y, place, place], transform=axes.transAxes, color=end.colour, linewidth=1.0, clip_on=False
            )
        )
        axes.text(
            1 + (reach + 3) / points,
            place,
            end.text,
            transform=axes.transAxes,
            va="center_baseline",
            size=SMALL,
            color=INK if end.strong else MUTED,
        )


def _height(axes: Axes) -> float:
    whole = axes.get_figure().get_size_inches()[1] * POINTS_PER_INCH  # type: ignore[union-attr]
    return float(whole * axes.get_position().height)
