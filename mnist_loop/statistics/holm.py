"""Holm's procedure for multiple tests."""

from __future__ import annotations

from collections.abc import Sequence


def levels(p_values: Sequence[float], level: float) -> list[tuple[bool, float]]:
    """Return for each p-value whether its hypothesis is rejected, and the level of its test.

    The smallest is tested at level / k, the next at level / (k - 1), and so on to the first that fails; the others are
    tested at the level of that one. The chance of any false rejection is at most ``level``, whatever the
    dependence (Holm, Scand. J. Statist. 6, 1979).
    """
    decided: list[tuple[bool, float]] = [(False, level)] * len(p_values)
    left, failed = len(p_values), False
    for index in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        failed = failed or p_values[index] >= level / left
        decided[index] = (not failed, level / left)
        left -= not failed
    return decided
