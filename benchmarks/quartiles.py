"""A median and its quartiles, as the benchmarks store them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import quantiles


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles of ``values``."""
    if len(values) == 1:
        return {"median": values[0], "q1": values[0], "q3": values[0]}
    lower, middle, upper = quantiles(values, n=4, method="inclusive")
    return {"median": middle, "q1": lower, "q3": upper}
