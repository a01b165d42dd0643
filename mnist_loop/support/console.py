"""The one text writer: in colour and within the width of a terminal, plain and unbroken anywhere else."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import rich.style  # noqa: F401  # here, because its import draws from Python's generator: not while a test or a loop runs
from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.table import Table as RichTable

STYLES = {
    "bad": "bold red",
    "warn": "yellow",
    "good": "green",
    "strong": "bold",
    "faint": "dim",
    "note": "italic",
    "": "",
}
GAP = "  "  # between columns


@dataclass(frozen=True)
class Styled:
    """A value of a cell with a key of `STYLES`."""

    value: object
    style: str = ""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph.

    Attributes:
        text: a single line.
        style: a key of `STYLES`.
        indent: columns.
        verbatim: it is code, which a terminal does not wrap.
    """

    text: str = ""
    style: str = ""
    indent: int = 0
    verbatim: bool = False


@dataclass(frozen=True)
class TextTable:
    """A table. A terminal wraps its last column where it is too wide.

    Attributes:
        rows: of equal lengths; a cell is a value, shown as its `str`, or a `Styled` one.
        headings: one for each column, with a rule beneath; none for a table without a head.
        right: numbers of the columns that are aligned to the right.
        indent: columns.
    """

    rows: Sequence[Sequence[object]]
    headings: Sequence[str] = ()
    right: Collection[int] = ()
    indent: int = 0


Block = Paragraph | TextTable


def paragraphs(text: str, style: str = "", indent: int = 0, verbatim: bool = False) -> list[Paragraph]:
    """Return a text of several lines as a paragraph for each."""
    return [Paragraph(line, style, indent, verbatim) for line in text.splitlines()]


def write(blocks: Iterable[Block], stream: TextIO | None) -> None:
    """Write blocks to a stream; to None, which a program has that is started with its stdout closed, write nothing."""
    if stream is not None:
        stream.write(text_for(blocks, stream))
        stream.flush()


def text_for(blocks: Iterable[Block], stream: TextIO) -> str:
    """Return blocks as text for a stream; characters that its encoding lacks are escaped."""
    text = _for_terminal(blocks, stream) if stream.isatty() else plain_text(blocks)
    return encodable(text, stream)


def plain_text(blocks: Iterable[Block]) -> str:
    """Return blocks as text without colour and without wrapping."""
    lines: list[str] = []
    for block in blocks:
        found = [printable(block.text)] if isinstance(block, Paragraph) else _plain_rows(block)
        lines += [f"{' ' * block.indent}{line}".rstrip() for line in found]
    return "".join(f"{line}\n" for line in lines)


def printable(text: str) -> str:
    """Return text with its control characters escaped: a terminal would obey them, and the text may be a user's."""
    return re.sub(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)


def _plain_rows(grid: TextTable) -> list[str]:
    rows = [list(grid.headings)] if grid.headings else []
    rows += [[_text(cell) for cell in row] for row in grid.rows]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    if grid.headings:
        rows.insert(1, ["-" * width for width in widths])
    lines = []
    for row in rows:
        spaces = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = enumerate(zip(row, spaces, strict=True))
        lines.append(GAP.join(space + cell if n in grid.right else cell + space for n, (cell, space) in cells))
    return lines


def _text(cell: object) -> str:
    return printable(str(cell.value if isinstance(cell, Styled) else cell))


def _for_terminal(blocks: Iterable[Block], stream: TextIO) -> str:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    # Captured: where the reader of a pipe has gone, rich would end the program with an exit code of its own.
    with console.capture() as capture:
        for block in blocks:
            if isinstance(block, TextTable):
                console.print(Padding(_rich_table(block, stream), (0, 0, 0, block.indent), expand=False))
                continue
            text = Text(encodable(printable(block.text), stream), STYLES[block.style])
            if block.verbatim or not block.text:  # Padding would swallow an empty line
                console.print(" " * block.indent, text, sep="", soft_wrap=True)
            else:
                console.print(Padding(text, (0, 0, 0, block.indent), expand=False))
    return capture.get()


def _rich_table(grid: TextTable, stream: TextIO) -> RichTable:
    from rich.box import ASCII2, SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    if grid.headings:
        box = SIMPLE_HEAD if encodable("─", stream) == "─" else ASCII2
        table = Table(show_edge=False, pad_edge=False, box=box)
    else:
        table = Table.grid(padding=(0, len(GAP), 0, 0))
    count = len(grid.headings) or max(map(len, grid.rows), default=0)
    for n in range(count):
        heading = Text(grid.headings[n]) if grid.headings else ""
        justify = "right" if n in grid.right else "left"
        wraps = bool(grid.headings) or n == count - 1
        table.add_column(heading, justify=justify, no_wrap=not wraps, overflow="fold")  # type: ignore[arg-type]
    for row in grid.rows:
        styles = [STYLES[cell.style] if isinstance(cell, Styled) else "" for cell in row]
        cells = zip(row, styles, strict=True)
        table.add_row(*(Text(encodable(_text(cell), stream), style) for cell, style in cells))
    return table


def encodable(text: str, stream: TextIO) -> str:
    """Return text in which the characters that a stream's encoding lacks are escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
