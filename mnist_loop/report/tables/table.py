"""A table of values, whatever it is written as: a title, columns, rows, sentences beneath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnist_loop.support.numbers import Interval, Quantity, short

Value = str | int | float | Quantity | Interval | None  # None: not measured, not known, or not asked
MISSING = "-"


@dataclass(frozen=True)
class Column:
    """A column's heading, and whether it holds numbers, which are set to the right."""

    heading: str
    numbers: bool = True


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it is about, in one line.
        columns: headings.
        rows: as many values each as there are columns.
        caption: where it was measured, and the units; may be empty.
        notes: sentences beneath.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    caption: str = ""
    notes: Sequence[str] = ()


def text_of(value: Value) -> str:
    """Write a value for people."""
    if value is None:
        return MISSING
    return short(value) if isinstance(value, float) else str(value)


def number_of(value: Value) -> float | None:
    """Return the number that a value is, for sorting and for machines; None where it is text or missing."""
    if isinstance(value, Quantity):
        return value.value
    if isinstance(value, Interval):
        return value.low
    return None if value is None or isinstance(value, str) else value
