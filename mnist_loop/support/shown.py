"""Values of others in our sentences: on one line, and not too long."""

from __future__ import annotations

LONGEST = 200  # characters


def shown(value: object) -> str:
    """Return a value as Python writes it, shortened."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
