"""Names and numbers in sentences, short enough for a plot."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

from mnist_loop.support.numbers import DOUBLE, share, short

LONGEST_NAME = 44  # letters: what fits beside a plot
SMALLEST = 1e-308  # a smaller float has no reciprocal


def slower_by(ratio: float) -> str:
    """Say what a ratio of times above 1 means: "3.1% slower", "2.31 times as slow"."""
    return f"{share(ratio - 1)} slower" if ratio < DOUBLE else f"{short(ratio)} times as slow"


def faster_by(ratio: float) -> str:
    """Say what a ratio of times below 1 means, as a change of time like `slower_by`: "3.1% faster"."""
    if ratio > 1 / DOUBLE:
        return f"{share(1 - ratio)} faster"
    return f"{short(1 / ratio if ratio > SMALLEST else math.inf)} times as fast"


def than(told: str, base: str) -> str:
    """Complete a comparison: "3.1% slower than base", "2.31 times as slow as base"."""
    return f"{told} {'as' if told.endswith(('as slow', 'as fast')) else 'than'} {base}"


def shorten(text: str, longest: int = LONGEST_NAME) -> str:
    """Return a name from a file on one line, without control characters, shortened in the middle where it is long."""
    kept = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in text)
    kept = re.sub(" +", " ", kept).strip()
    if len(kept) <= longest:
        return kept
    half = (longest - 1) // 2
    return f"{kept[:half].rstrip()}\N{HORIZONTAL ELLIPSIS}{kept[-half:].lstrip()}"


def join_words(items: Sequence[object], most: int = 4) -> str:
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
