"""Tables as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mnist_loop.report.tables.table import Table, Value, text_of


def to_markdown(tables: Iterable[Table]) -> str:
    """Return the tables with their titles and notes."""
    return "\n".join(_whole(table) for table in tables)


def table_to_markdown(table: Table) -> str:
    """Return a table with its caption, but without title and notes."""
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
    """Escape text so that Markdown shows it as it is."""
    text = re.sub(r"([\\*`~]|(?<!\w)_|_(?!\w)|\](?=[(\[:]))", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;")
