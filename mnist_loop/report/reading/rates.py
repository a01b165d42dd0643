"""Median, quartiles and a distribution-free interval of the median of a series of throughputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import quantiles

CONFIDENCE = 0.95
# With five values even the whole range misses the median in 2 / 2**5 = 6% of all cases.
FEWEST = 6


def median_and_quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile, with linear interpolation."""
    lower, middle, upper = quantiles(values, n=4, method="inclusive")
    return lower, middle, upper


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95% interval of the median of the distribution of at least `FEWEST` values.

    Its ends are order statistics: the number of values below the true median is binomial for any distribution
    (W. R. Thompson, 1936). It holds for independent values. Rounds of one run are not independent, and the interval
    does not cover differences between runs.
    """
    ordered = sorted(values)
    place = _left_out(len(ordered))
    return ordered[place], ordered[-1 - place]


@cache
def _left_out(count: int) -> int:
    """Return how many values are left out at either end."""
    allowed = (1 - CONFIDENCE) / 2
    place, ways, below = 0, 1, 1  # ways in which exactly, and at most, ``place`` values lie below the median
    while True:
        ways = ways * (count - place) // (place + 1)
        # The interval without one more value misses on this side if at most ``place`` values lie below. Python divides
        # whole numbers of any size correctly.
        if (below + ways) / 2**count > allowed:
            return place
        place, below = place + 1, below + ways
