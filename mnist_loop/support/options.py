"""Types of command-line options. Their errors say what was expected."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

MOST = 2**31 - 1  # torch counts in 32 bits in some places
MOST_AT_ONCE = 1024  # threads or processes: more do not help, and a typing error could stop the machine
SECONDS_IN = {"s": 1, "m": 60, "h": 3600}
LAST_SEED = 2**64 - 1  # torch takes no larger one


def positive_int(text: str) -> int:
    """Read a whole number of at least 1."""
    return _whole(text, 1, MOST)


def thread_count(text: str) -> int:
    """Read a number of threads, at least 1."""
    return _whole(text, 1, MOST_AT_ONCE)


def worker_count(text: str) -> int:
    """Read a number of processes, which may be 0."""
    return _whole(text, 0, MOST_AT_ONCE)


def seed(text: str) -> int:
    """Read a seed that torch takes."""
    return _whole(text, 0, LAST_SEED)


def positive_float(text: str) -> float:
    """Read a finite number above 0."""
    return _number(text, "a number above 0", lambda value: value > 0)


def fraction(text: str) -> float:
    """Read a number from 0 to 1."""
    expected = "a number from 0 to 1"
    percent = text.rstrip("% ")
    if percent.isdecimal() and 1 < int(percent) <= 100:
        expected += f": {percent} percent is {int(percent) / 100}"
    return _number(text, expected, lambda value: 0 <= value <= 1)


def slowdown(text: str) -> float:
    """Read a share of 0 to 1, or a percentage of 0% to 100%."""
    if not text.endswith("%"):
        return fraction(text)
    return _number(text[:-1], "a percentage from 0% to 100%", lambda value: 0 <= value <= 100) / 100


def percentage(text: str) -> float:
    """Read a percentage above 0, with or without ``%``; return the share: 0.03 for ``3%`` or ``3``."""
    return _number(text.strip().removesuffix("%"), "a percentage above 0, such as 3%", lambda value: value > 0) / 100


def duration(text: str) -> float:
    """Read a time such as ``30``, ``30s``, ``10m`` or ``1h``; return seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in SECONDS_IN else (text, "s")
    return _number(number, "a time above 0, such as 30s or 10m", lambda value: value > 0) * SECONDS_IN[unit]


def batch_sizes(text: str) -> list[int]:
    """Read batch sizes separated by commas; return them sorted, without repetitions."""
    return sorted({positive_int(part) for part in text.split(",")})


def _whole(text: str, at_least: int, at_most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = at_least - 1
    if not at_least <= value <= at_most:
        bound = f"at most {at_most}" if value > at_most else f"at least {at_least}"
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a whole number of {bound}")
    return value


def _number(text: str, expected: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and fits(value)):
        raise argparse.ArgumentTypeError(f"{text!r} found, expected {expected}")
    return value
