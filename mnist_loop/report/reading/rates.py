"""What a series of throughputs says: median, quartiles, and an interval of the median that asks nothing of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import quantiles

CONFIDENCE = 0.95
# With five values even the range from the least to the largest misses the median in 2 / 2**5 = 6% of all cases.
FEWEST = 6


def median_and_quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile, with linear interpolation."""
    lower, middle, upper = quantiles(values, n=4, method="inclusive")
    return lower, middle, upper


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95% interval of the median of what at least `FEWEST` values were drawn from.

    Its ends are values that were measured: how many of n values lie below the true median is a binomial number,
    whatever their distribution (W. R. Thompson, 1936). It holds for independent values. Rounds that follow each
    other depend on each other, and this interval does not know what another run would have given.
    """
    ordered = sorted(values)
    place = _left_out(len(ordered))
    return ordered[place], ordered[-1 - place]


@cache
def _left_out(count: int) -> int:
    """Return how many values may be left out at either end."""
    allowed = (1 - CONFIDENCE) / 2
    place, ways, below = 0, 1, 1  # ways in which ``place`` of the values, and at most so many, lie below the median
    while True:
        ways = ways * (count - place) // (place + 1)
        # The interval that leaves one more out misses on this side if at most so many lie below. The whole numbers
        # are divided, which Python does right whatever their size.
        if (below + ways) / 2**count > allowed:
            return place
        place, below = place + 1, below + ways
