"""Findings that an author silences in the source: ``# mnist-loop: ignore[id]``.

The comment holds for its line, which may be a statement of several lines; behind ``def`` or ``class``, for all of it.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from mnist_loop.bugs import get
from mnist_loop.errors import UserError
from mnist_loop.verdict.location import SourceLine, read_source, shown_path

COMMENT = re.compile(r"#\s*mnist-loop:\s*ignore(?![\w-])\s*(?:\[([^\]]*)\])?")


@dataclass(frozen=True)
class Ignore:
    """A comment that silences.

    Attributes:
        line: where it stands.
        ids: of the bugs that it silences.
        first, last: the lines that it holds for.
    """

    line: int
    ids: tuple[str, ...]
    first: int
    last: int


def silencing(id: str, line: SourceLine | None, file: str | None, lines: tuple[int, int] | None) -> str:  # noqa: A002  # the catalogue's word
    """Return the place of the comment that silences a bug, "my_train.py:6"; "" if none does.

    Args:
        id: of the bug.
        line: where it was found; None where that cannot be told.
        file: that of the loop.
        lines: the first and the last line of the loop: a comment that holds for all of it silences each finding.
    """
    places = [(line.file, line.line, line.line)] if line is not None else []
    places += [(file, *lines)] if file is not None and lines is not None else []
    for name, first, last in places:
        for ignore in _ignores(name):
            if id in ignore.ids and ignore.first <= first and last <= ignore.last:
                return f"{shown_path(name)}:{ignore.line}"
    if line is not None and read_source(line.file) is None:  # what ran is known by its line alone
        found = COMMENT.search(line.text)
        if found is not None and id in _ids(found[1]):
            return line.place
    return ""


def wrong_ignores(file: str) -> Iterator[str]:
    """Yield a sentence for each comment of a file that names no bug, or one that there is not."""
    for ignore in _ignores(file):
        place = f"{shown_path(file)}:{ignore.line}: # mnist-loop: ignore"
        if not ignore.ids:
            yield f"{place} found without an id, expected ignore[ID]: it silences nothing"
        for id_ in ignore.ids:
            try:
                get(id_)
            except UserError as error:
                yield f"{place}[{id_}]: {error}"


def _ignores(file: str) -> tuple[Ignore, ...]:
    source = read_source(file)
    return () if source is None or "mnist-loop" not in source else _in_source(source)


@lru_cache(maxsize=64)
def _in_source(source: str) -> tuple[Ignore, ...]:
    try:
        functions = {
            node.lineno: (min(part.lineno for part in (node, *node.decorator_list)), node.end_lineno or node.lineno)
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }
        return tuple(
            Ignore(line, ids, *functions.get(first, (first, last))) for line, ids, first, last in _comments(source)
        )
    except (SyntaxError, ValueError, tokenize.TokenError):
        return ()


def _comments(source: str) -> Iterator[tuple[int, tuple[str, ...], int, int]]:
    """Yield each comment: its line, its ids, and the first and last line of the statement that it stands in."""
    first: int | None = None  # of the statement; None between two
    held: list[tuple[int, tuple[str, ...]]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.start[0]
        if token.type == tokenize.COMMENT:
            found = COMMENT.search(token.string)
            if found is not None:
                held.append((line, _ids(found[1])))
        elif token.type == tokenize.NEWLINE:
            yield from ((number, ids, first or line, line) for number, ids in held)
            first, held = None, []
        elif token.type == tokenize.NL and first is None:  # a line of its own
            yield from ((number, ids, number, number) for number, ids in held)
            held = []
        elif first is None and token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
            first = line


def _ids(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in (text or "").split(","))))
