"""Tables as Markdown: what GitHub shows as one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mnist_loop.report.tables.table import Table, Value, text_of


def to_markdown(tables: Iterable[Table]) -> str:
    """Return the tables with their titles and notes."""
    return "\n".join(_whole(table) for table in tables)


def table_to_markdown(table: Table) -> str:
    """Return a table and its caption alone, as the README has it."""
    lines = ["| " + " | ".join(_value(column.heading) for column in table.columns) + " |"]
    lines.append("|" + "".join("---:|" if column.numbers else "---|" for column in table.columns))
    lines += ["| " + " | ".join(map(_value, row)) + " |" for row in table.rows]
    return "\n".join([*lines, "", *([f"*{_text(table.caption)}.*"] if table.caption else [])]) + "\n"


def _whole(table: Table) -> str:
    parts = [f"### {_text(table.title)}\n"] if table.title else []
    parts += [table_to_markdown(table)] if table.columns else []
    if table.notes:
        parts.append("".join(f"- {_text(note)}\n" for note in table.notes))
    return "\n".join(parts)


def _value(value: Value) -> str:
    return _text(text_of(value)).replace("|", r"\|")


def _text(text: str) -> str:
    """Return text that Markdown takes for nothing else: no tag, no link, no emphasis, no code."""
    text = re.sub(r"([\\*`~]|(?<!\w)_|_(?!\w)|\](?=[(\[:]))", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;")
