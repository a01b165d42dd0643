"""Logarithmic axes of batch sizes and of images per second."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes

from mnist_loop.report.plots.ink import text_width
from mnist_loop.support.numbers import short

DEEPEST = (
    12.0  # decades below the largest value that are shown: lower values are no measurements and would flatten the rest
)
FREE = 0.06  # share of the axis left free at each end
MOST_TICKS = 7


class LogLog:
    """Axes of images per second against batch size.

    Args:
        axes: empty ones.
        width: of them, in points.
        sizes: all batch sizes.
        rates: all rates that are to be seen; what is no positive number does not count.
    """

    def __init__(self, axes: Axes, width: float, sizes: Iterable[int], rates: Iterable[float]) -> None:
        self.axes = axes
        self.sizes = sorted({size for size in sizes if size > 0}) or [1]
        self.x = _ends([math.log10(size) for size in self.sizes], 0.05)
        self.y = _ends([math.log10(value) for value in rates if can_be_drawn(value)] or [0.0], 0.1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*(10**end for end in self.x))
        axes.set_ylim(*(10**end for end in self.y))
        axes.minorticks_off()
        axes.set_xticks(*_sizes(self.sizes, width, self.x))
        places = _rates(*self.y)
        axes.set_yticks(places, [short(place) for place in places])
        axes.grid(visible=True, axis="y")
        axes.tick_params(length=3)
        axes.set_xlabel("batch size (images)")

    def height(self, value: float) -> float:
        """Return where a rate is, as a share of the axes' height."""
        low, high = self.y
        return min(max((math.log10(value) - low) / (high - low), 0.0), 1.0)


def can_be_drawn(value: float) -> bool:
    """Whether a value can be on a logarithmic axis."""
    return math.isfinite(value) and 1e-290 < value < 1e290


def _ends(logs: Sequence[float], least: float) -> tuple[float, float]:
    high = max(logs)
    low = max(min(logs), high - DEEPEST)
    free = FREE * (high - low) + least
    return low - free, high + free


def _sizes(sizes: Sequence[int], width: float, ends: tuple[float, float]) -> tuple[list[int], list[str]]:
    """Return the batch sizes whose labels do not touch each other."""
    shown: list[int] = []
    free = -math.inf
    for size in sizes:
        place = (math.log10(size) - ends[0]) / (ends[1] - ends[0]) * width
        half = text_width(str(size)) / 2
        if place - half > free:
            shown.append(size)
            free = place + half + 6
    return shown, [str(size) for size in shown]


def _rates(low: float, high: float) -> list[float]:
    """Return ticks between two powers of ten: 1, 2, 5, 10 ... or, on a long axis, powers of ten alone."""
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        places = [
            digit * 10.0**power
            for power in range(math.floor(low), math.ceil(high) + 1)
            for digit in digits
            if low <= power + math.log10(digit) <= high
        ]
        if len(places) <= MOST_TICKS:
            break
    if len(places) < 2:
        span = 10**high - 10**low
        step = 10.0 ** math.floor(math.log10(span))
        places = [number * step for number in range(math.ceil(10**low / step), math.floor(10**high / step) + 1)]
    return places[:: -(-len(places) // MOST_TICKS)]
