"""Numbers as text: the one place that knows digits, units and signs. A `Quantity` keeps its value beside its text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

PREFIXES = ("", "k", "M", "G", "T")
LARGEST_SHARE = 100.0  # beyond it a share says no more than "more than"
DOUBLE = 2.0  # from here on a factor is understood sooner than a percentage
SMALLEST_SECONDS = 1e-12
MOST_DECIMALS = 2  # of a percentage
GIVEN_DIGITS = 4  # of a share that a person typed, such as a margin or a confidence


def short(value: float) -> str:
    """Write a number with three digits and a prefix: 987, 12.3k, 456k, 7.89M; beyond all prefixes as 5e+15."""
    if not value < 999.5e12:
        return f"{value:.0e}"
    thousands = 0
    while value >= 999.5:
        value, thousands = value / 1000, thousands + 1
    return f"{value:.3g}{PREFIXES[thousands]}" if value < 100 else f"{value:.0f}{PREFIXES[thousands]}"


def with_unit(value: float, unit: str) -> str:
    """Write a number with three digits and its unit: 150 GFLOP/s, 987 B/s."""
    text = short(value)
    return f"{text[:-1]} {text[-1]}{unit}" if text[-1] in PREFIXES[1:] else f"{text} {unit}"


def seconds(value: float) -> str:
    """Write a time with three digits: 12.3 s, 4.56 ms, 789 µs; less than a picosecond is 0 s."""
    size = abs(value)
    if size < SMALLEST_SECONDS:
        return "0 s"
    if size >= 999.5:
        return f"{value:.0f} s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if size >= 0.9995 * scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def share(value: float, digits: int = 2) -> str:
    """Write a share in percent: 12%, 3.4%, 0.56%; a large one without decimals."""
    if not value < LARGEST_SHARE:
        return f"more than {LARGEST_SHARE:.0%}"
    percent = 100 * value
    if abs(percent) >= 10**digits - 0.5:
        return f"{percent:.0f}%"
    return f"{round(percent, MOST_DECIMALS):.{digits}g}%"


def given_share(value: float) -> str:
    """Write a share as a person types it: 1%, 2.5%, 99.97%."""
    return share(value, GIVEN_DIGITS)


def change(ratio: float) -> str:
    """Write a ratio of times as what is added to the time: +3.1%, -20%, 2.31 times."""
    if 1 / DOUBLE <= ratio < DOUBLE:
        percent = 100 * (ratio - 1)
        return f"{percent:+.{0 if abs(percent) >= 9.95 else 1 if abs(percent) >= 0.995 else 2}f}%"
    return f"{short(ratio)} times"


def ratio(value: float) -> str:
    """Write a ratio: 1.053, and 30.2 where three decimals say nothing."""
    return f"{value:.3f}" if 0.1 <= value < 10 else f"{value:.3g}"


def decimals(value: float) -> str:
    """Write a loss or the like: 0.2306."""
    return f"{value:.4f}"


def without_decimals(value: float) -> str:
    """Write a number without decimals: 39."""
    return f"{value:.0f}"


class Unit(Enum):
    """What a number counts; it decides how the number is written."""

    NUMBER = auto()
    LOSS = auto()
    RATE = auto()
    IMAGES_PER_SECOND = auto()
    FLOP_PER_SECOND = auto()
    BYTES_PER_SECOND = auto()
    MEBIBYTES = auto()
    SECONDS = auto()
    SHARE = auto()
    RATIO = auto()


WRITERS: Mapping[Unit, Callable[[float], str]] = {
    Unit.NUMBER: without_decimals,
    Unit.LOSS: decimals,
    Unit.RATE: short,
    Unit.IMAGES_PER_SECOND: lambda value: f"{short(value)} images/s",
    Unit.FLOP_PER_SECOND: lambda value: with_unit(value, "FLOP/s"),
    Unit.BYTES_PER_SECOND: lambda value: with_unit(value, "B/s"),
    Unit.MEBIBYTES: lambda value: f"{value:.0f} MiB",
    Unit.SECONDS: seconds,
    Unit.SHARE: share,
    Unit.RATIO: ratio,
}


@dataclass(frozen=True)
class Interval:
    """The ends of an interval in one unit."""

    low: float
    high: float
    unit: Unit = Unit.RATIO

    def __str__(self) -> str:
        """Write it: [1.040, 1.060]."""
        write = WRITERS[self.unit]
        return f"[{write(self.low)}, {write(self.high)}]"


@dataclass(frozen=True)
class Quantity:
    """A value with what it counts, and what is known of its scatter.

    Attributes:
        value: in plain units: images per second, seconds, bytes per second, a share of 1.
        unit: of the value and of the interval.
        interval: its ends, where there is one.
        spread: the interquartile range as a share of the value, where it is told.
    """

    value: float
    unit: Unit
    interval: tuple[float, float] | None = None
    spread: float | None = None

    def __str__(self) -> str:
        """Write it: 12.3k, 4.56 ms, 1.050 [1.040, 1.060], 12.3k [4%]."""
        text = WRITERS[self.unit](self.value)
        if self.interval is not None:
            text += f" {Interval(*self.interval, self.unit)}"
        return text if self.spread is None else f"{text} [{self.spread:.0%}]"
