"""A table, whatever it is shown in: a title, columns, rows of text, sentences beneath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
        rows: as many cells each as there are columns.
        caption: where it was measured, and the units; may be empty.
        notes: sentences beneath.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    notes: Sequence[str] = ()
