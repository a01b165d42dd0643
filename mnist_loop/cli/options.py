"""Types of command-line options: each says what it expected."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def positive_int(text: str) -> int:
    """Read a whole number of at least 1."""
    return _whole(text, at_least=1)


def natural(text: str) -> int:
    """Read a whole number of at least 0."""
    return _whole(text, at_least=0)


def positive_float(text: str) -> float:
    """Read a finite number above 0."""
    return _number(text, "a number above 0", lambda value: value > 0)


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    return _number(text, "a number from 0 to 1", lambda value: 0 <= value <= 1)


def batch_sizes(text: str) -> list[int]:
    """Read batch sizes separated by commas, in rising order and each once."""
    return sorted({positive_int(part) for part in text.split(",")})


def _whole(text: str, at_least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = at_least - 1
    if value < at_least:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a whole number of at least {at_least}")
    return value


def _number(text: str, expected: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and fits(value)):
        raise argparse.ArgumentTypeError(f"{text!r} found, expected {expected}")
    return value
