"""Tables for a terminal, through rich."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from typing import TextIO

from rich.box import ASCII2, SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from mnist_loop.report.tables.table import Table, text_of

GAP = "  "
STYLES = {"SLOWER": "bold red", "FASTER": "bold green", "SAME": "green", "INCONCLUSIVE": "yellow"}


def to_terminal(tables: Iterable[Table], stream: TextIO) -> str:
    """Return the tables as text for ``stream``: in colour and within its width if it is a terminal, plain if not.

    What the encoding of the stream lacks is spelt out.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = "\n".join(_coloured(table, stream, encoding) if stream.isatty() else _plain(table) for table in tables)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _coloured(table: Table, stream: TextIO, encoding: str) -> str:
    # Not to the stream itself: where the reader of a pipe has gone, rich ends the program with its own exit code.
    console = Console(file=StringIO(), width=Console(file=stream).width, force_terminal=True, highlight=False)
    console.print(Text(table.title, "bold"))
    if table.columns:
        console.print(_grid(table, plain=not _has("─…", encoding)))
    if table.caption:
        console.print(Text(table.caption, "italic"))
    for note in table.notes:
        console.print(Text(note))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def _plain(table: Table) -> str:
    """Lay a table out without breaking a line: as rich would, in a fraction of the time."""
    headings = [column.heading for column in table.columns]
    rows = [[text_of(value) for value in row] for row in table.rows]
    columns = list(zip(headings, *rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    lines = [table.title]
    for row in (headings, ["-" * width for width in widths], *rows) if columns else ():
        cells = zip(row, widths, table.columns, strict=True)
        lines.append(GAP.join(_aligned(text, width, column.numbers) for text, width, column in cells).rstrip())
    lines += [table.caption] if table.caption else []
    return "".join(f"{line}\n" for line in (*lines, *table.notes))


def _aligned(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _grid(table: Table, plain: bool) -> Grid:
    grid = Grid(show_edge=False, pad_edge=False, box=ASCII2 if plain else SIMPLE_HEAD)
    for column in table.columns:
        grid.add_column(Text(column.heading), justify="right" if column.numbers else "left")
    for row in table.rows:
        grid.add_row(*(Text(text, STYLES.get(text, "")) for text in map(text_of, row)))
    return grid


def _has(text: str, encoding: str) -> bool:
    return text.encode(encoding, "ignore").decode(encoding) == text
