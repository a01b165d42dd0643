"""Numbers and names as words, short enough for a plot."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

LONGEST_NAME = 44  # letters: what fits beside a plot
PERCENT = "\N{NO-BREAK SPACE}%"
UNITS = ("", "k", "M", "G", "T", "P")
DOUBLE = 2.0  # from here on "times as long" is understood sooner than a percentage


def rate(value: float) -> str:
    """Write a rate with three digits: 987, 12.3k, 456k, 7.89M; beyond all units as a power of ten."""
    if not math.isfinite(value) or value <= 0:
        return "unknown"
    if value >= 999.5e15 or value < 0.01:
        return f"{value:.0e}"
    thousands = 0
    while value >= 999.5:
        value, thousands = value / 1000, thousands + 1
    return f"{value:.3g}{UNITS[thousands]}" if value < 100 else f"{value:.0f}{UNITS[thousands]}"


def quantity(value: float, unit: str) -> str:
    """Write a value with its unit: 150 GFLOP/s."""
    number = rate(value)
    prefix = number[-1] if number[-1:] in UNITS[1:] else ""
    return f"{number.removesuffix(prefix)} {prefix}{unit}"


def share(value: float) -> str:
    """Write a share in percent with two digits: 0.31 %, 3.1 %, 31 %."""
    percent = abs(100 * value)
    if percent < 0.005:
        return f"0{PERCENT}"
    return f"{f'{percent:.2f}' if percent < 0.995 else _two_digits(percent)}{PERCENT}"


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def times(factor: float) -> str:
    """Write a factor: 2.3, 31, 1e+300."""
    return _two_digits(factor) if 0.95 <= factor < 1e4 else f"{factor:.2g}"


def slower(ratio: float) -> str:
    """Say what a ratio of times above 1 means: "3.1 % slower", "2.3 times as slow"."""
    return f"{share(ratio - 1)} slower" if ratio < DOUBLE else f"{times(ratio)} times as slow"


def faster(ratio: float) -> str:
    """Say what a ratio of times below 1 means, in time like `slower`: "3.1 % faster", "2.3 times as fast"."""
    if ratio > 1 / DOUBLE:
        return f"{share(1 - ratio)} faster"
    return f"{times(1 / ratio if ratio > 1e-308 else math.inf)} times as fast"  # what is less has no reciprocal


def margin(value: float) -> str:
    """Write a margin as the person gave it: 1 %, 2.5 %."""
    return f"{100 * value:.3g}{PERCENT}"


def signed(ratio: float) -> str:
    """Write a ratio of times as what is added to the time: +3.1 %, -20 %, x 2.3."""
    if not math.isfinite(ratio) or ratio < 0:
        return "?"
    if 1 / DOUBLE <= ratio < DOUBLE:
        return ("+" if ratio >= 1 else "\N{MINUS SIGN}") + share(ratio - 1)
    return f"\N{MULTIPLICATION SIGN} {times(ratio)}"


def plain(text: str, longest: int = LONGEST_NAME) -> str:
    """Return a name from a file on one line, without control characters, shortened in the middle where it is long."""
    kept = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in text)
    kept = re.sub(" +", " ", kept).strip()
    if len(kept) <= longest:
        return kept
    half = (longest - 1) // 2
    return f"{kept[:half].rstrip()}\N{HORIZONTAL ELLIPSIS}{kept[-half:].lstrip()}"


def listing(items: Sequence[object], most: int = 4) -> str:
    """Write "16", "16 and 64", "16, 64 and 256", "16, 64, 256 and 7 more"."""
    words = [str(item) for item in items]
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def count(number: int, name: str) -> str:
    """Write "1 restart", "2 restarts"."""
    return f"{number} {name}{'' if number == 1 else 's'}"


def file_name(*words: str) -> str:
    """Return words as a part of a file name: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")[:80] or "plot"
