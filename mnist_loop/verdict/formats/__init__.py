"""A verdict in the formats that people and programs read, whichever command found it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from mnist_loop.support.console import encodable, text_for
from mnist_loop.verdict import text
from mnist_loop.verdict.document import as_json, is_document
from mnist_loop.verdict.formats.github import as_github, is_github
from mnist_loop.verdict.formats.junit import as_junit, is_junit
from mnist_loop.verdict.formats.sarif import as_sarif, is_sarif

if TYPE_CHECKING:
    from mnist_loop.verdict.verdict import Verdict

WRITERS: dict[str, Callable[[Verdict], str]] = {  # for programs
    "json": as_json,
    "github": as_github,
    "sarif": as_sarif,
    "junit": as_junit,
}
FORMATS = ("text", *WRITERS)
READERS: tuple[Callable[[bytes], bool], ...] = (is_document, is_github, is_sarif, is_junit, text.is_page)


def rendered(verdict: Verdict, format: str, stream: TextIO, *, every_law: bool = False) -> str:  # noqa: A002  # its word
    """Return the verdict in one of `FORMATS`, for a stream: text has colour on a terminal.

    Args:
        verdict: what was found.
        format: one of `FORMATS`.
        stream: where it is to be written.
        every_law: list each law, in text; the other formats have them all.
    """
    if format == "text":
        return text_for(text.page(verdict, every_law=every_law), stream)
    return encodable(WRITERS[format](verdict), stream)


def write_verdict(verdict: Verdict, format: str, stream: TextIO | None, *, every_law: bool = False) -> None:  # noqa: A002  # as above
    """Write the verdict to a stream; to None, which a program has that is started with its stdout closed, nothing."""
    if stream is not None:
        stream.write(rendered(verdict, format, stream, every_law=every_law))
        stream.flush()


def is_verdict(content: bytes) -> bool:
    """Tell whether a file with this content holds a verdict of ours, in any format."""
    return any(reads(content) for reads in READERS)
