"""Figures for people: three digits and a unit."""

from __future__ import annotations

HUGE = 100.0
UNITS = ("", "k", "M", "G", "T")


def short(rate: float) -> str:
    """Write a rate with three digits: 987, 12.3k, 456k, 7.89M."""
    if rate >= 999.5e12:
        return f"{rate:.2e}"
    thousands = 0
    while rate >= 999.5:
        rate, thousands = rate / 1000, thousands + 1
    return f"{rate:.3g}{UNITS[thousands]}" if rate < 100 else f"{rate:.0f}{UNITS[thousands]}"


def quantity(value: float, unit: str) -> str:
    """Write a rate with three digits and its unit: 150 GFLOP/s."""
    text = short(value)
    return f"{text[:-1]} {text[-1]}{unit}" if text[-1] in UNITS[1:] else f"{text} {unit}"


def seconds(value: float) -> str:
    """Write a time with three digits: 12.3 s, 4.56 ms, 789 µs; less than a picosecond is none."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= 0.9995 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns" if value >= 1e-12 else "0 ns"


def share(value: float) -> str:
    """Write a share in per cent with two digits: 12%, 3.4%, 0.56%; from 100 times on, nobody wants the figure."""
    if value < 0.995:
        return f"{100 * value:.2g}%"
    return f"{value:.0%}" if value < HUGE else f"more than {HUGE:.0%}"


def ratio(value: float) -> str:
    """Write a ratio of times: 1.053, and 30.2 where three decimals say nothing."""
    return f"{value:.3f}" if 0.1 <= value < 10 else f"{value:.3g}"


def interval(low: float, high: float) -> str:
    """Write the interval of a ratio: [1.040, 1.060]."""
    return f"[{ratio(low)}, {ratio(high)}]"
