"""Cleans text from files: one line, bounded, without control characters."""

from __future__ import annotations

import unicodedata

LONGEST = 200  # characters; the longest that is stored, a GPU's name with its clocks, has about 80
# Control characters and formats (which turn the direction of writing), halves of characters, private and unknown ones.
UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def clean(text: str, longest: int = LONGEST) -> str:
    """Return ``text`` in one line, without unprintable characters, and cut to ``longest`` characters."""
    text = text[: 4 * longest]  # the rest is cut below
    if not (text.isascii() and text.isprintable()):
        # Tabs and line ends become spaces; other unprintable characters are removed.
        kept = (" " if char.isspace() else char for char in text if char.isspace() or _is_printable(char))
        text = "".join(kept)
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _is_printable(char: str) -> bool:
    return unicodedata.category(char) not in UNPRINTABLE
