"""Text on its way out: in colour and within the width of a terminal, plain and unbroken anywhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

STYLES = {"bad": "bold red", "warn": "yellow", "good": "green", "strong": "bold", "faint": "dim", "": ""}
GAP = "  "  # between columns


@dataclass(frozen=True)
class Line:
    """A paragraph.

    Attributes:
        text: of one line.
        style: a key of `STYLES`.
        indent: columns.
        verbatim: it is code: not broken where it is too wide.
    """

    text: str = ""
    style: str = ""
    indent: int = 0
    verbatim: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells without rules; the last cell of a row is broken where it is too wide.

    Attributes:
        rows: of equal lengths.
        styles: of each row's first cell.
        indent: columns.
    """

    rows: Sequence[Sequence[str]]
    styles: Sequence[str]
    indent: int = 2


Page = Iterable[Line | Table]


def lines_of(text: str, style: str = "", indent: int = 0, verbatim: bool = False) -> list[Line]:
    """Return the lines of a text that may have several."""
    return [Line(line, style, indent, verbatim) for line in text.splitlines()]


def write(page: Page, stream: TextIO | None) -> None:
    """Write a page to a stream, if there is one: a program may be started with its stdout closed."""
    if stream is None:
        return
    if stream.isatty():
        _to_terminal(page, stream)
    else:
        # Not through rich: where the reader of a pipe has gone, it ends the program with its own exit code.
        stream.write(_encodable(plain(page), stream))
    stream.flush()


def plain(page: Page) -> str:
    """Return a page as text without colour, its lines as long as they are."""
    result = []
    for block in page:
        if isinstance(block, Line):
            result.append(" " * block.indent + printable(block.text))
            continue
        cells = [[printable(cell) for cell in row] for row in block.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            text = GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            result.append(" " * block.indent + text)
    return "".join(f"{line.rstrip()}\n" for line in result)


def printable(text: str) -> str:
    """Return text whose control characters, which a terminal would obey, are spelt out; it may be a stranger's."""
    return re.sub(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)


def _to_terminal(page: Page, stream: TextIO) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table as Grid
    from rich.text import Text

    console = Console(file=stream, highlight=False, markup=False, emoji=False)

    def text(content: str, style: str = "") -> Text:
        return Text(_encodable(printable(content), stream), STYLES[style])

    for block in page:
        if isinstance(block, Table):
            grid = Grid.grid(padding=(0, len(GAP), 0, 0))
            last = max(map(len, block.rows), default=1) - 1
            for number in range(last + 1):
                grid.add_column(no_wrap=number < last, overflow="fold")
            for row, style in zip(block.rows, block.styles, strict=True):
                grid.add_row(text(row[0], style), *map(text, row[1:]))
            console.print(Padding(grid, (0, 0, 0, block.indent), expand=False))
        elif block.verbatim or not block.text:  # nothing, padded, is no line
            console.print(text(" " * block.indent + block.text, block.style), soft_wrap=True)
        else:
            console.print(Padding(text(block.text, block.style), (0, 0, 0, block.indent), expand=False))


def _encodable(text: str, stream: TextIO) -> str:
    """Return text that the stream can write: what its encoding lacks is spelt out."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
