"""Tables for a terminal or a text file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO

from mnist_loop.report.tables.table import Table, Value, text_of
from mnist_loop.support.console import Block, Paragraph, Styled, TextTable, text_for

STYLES = {"SLOWER": "bad", "FASTER": "good", "SAME": "good", "INCONCLUSIVE": "warn"}


def to_terminal(tables: Iterable[Table], stream: TextIO) -> str:
    """Return the tables as text for ``stream``: in colour and within its width if it is a terminal, else plain."""
    return "\n".join(text_for(_blocks(table), stream) for table in tables)


def _blocks(table: Table) -> Iterator[Block]:
    yield Paragraph(table.title, "strong")
    if table.columns:
        yield TextTable(
            rows=[[_styled(value) for value in row] for row in table.rows],
            headings=[column.heading for column in table.columns],
            right=[place for place, column in enumerate(table.columns) if column.numbers],
        )
    if table.caption:
        yield Paragraph(table.caption, "note")
    yield from (Paragraph(note) for note in table.notes)


def _styled(value: Value) -> Styled:
    text = text_of(value)
    return Styled(text, STYLES.get(text, ""))
