"""The most likely line of a bug in the source of the loop.

A line is named only if exactly one line matches the bug's patterns: a wrong line costs more time than none.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mnist_loop.bugs import Bug


@dataclass(frozen=True)
class SourceLine:
    """A line of a user's file.

    Attributes:
        file: its path.
        line: its number, from 1.
        text: what is written there, with its indentation.
    """

    file: str
    line: int
    text: str

    @property
    def place(self) -> str:
        """The file, as it is found from here, and the line: "my_train.py:12"."""
        return f"{shown_path(self.file)}:{self.line}"


def shown_path(file: str) -> str:
    """Return a path as it is found from the working folder; one of another place as it is."""
    path, here = Path(file), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)


def read_source(file: str) -> str | None:
    """Return the source of a Python file in its encoding; None where it cannot be read."""
    try:
        with tokenize.open(file) as stream:
            return stream.read()
    except (OSError, SyntaxError, ValueError):
        return None


def likely_line(bug: Bug, file: str | None, lines: tuple[int, int] | None) -> SourceLine | None:
    """Return the line in which a bug most likely is; None where that cannot be told.

    Args:
        bug: its `Bug.lines` say how its line looks.
        file: the loop's source.
        lines: the first and the last line of what trains.
    """
    if not bug.lines or file is None or lines is None:
        return None
    source = read_source(file)
    number = None if source is None else _likely_number(bug, source, lines)
    return (
        None if number is None or source is None else SourceLine(file, number, source.splitlines()[number - 1].rstrip())
    )


@lru_cache(maxsize=256)  # it is asked for again with each part of a verdict that is shown
def _likely_number(bug: Bug, source: str, lines: tuple[int, int]) -> int | None:
    try:
        module, code = ast.parse(source), _code(source)
    except (SyntaxError, ValueError, tokenize.TokenError):
        return None  # it is no longer what was imported
    for numbers in _scopes(module, lines):
        for text in bug.lines:
            found = [number for number in sorted(numbers) if re.search(text, code.get(number, ""))]
            if found:
                fits = len(found) == 1 and _is_in_loop(module, found[0], bug.loop_over, code)
                return found[0] if fits and not _is_in_a_branch(module, found[0]) else None
    return None


def _scopes(module: ast.Module, lines: tuple[int, int]) -> Iterator[set[int]]:
    """Yield the numbers of the lines to search: the loop, then its class, then what these call in the same file."""
    loop = set(range(lines[0], lines[1] + 1))
    yield loop
    around = [node for node in module.body if _numbers(node) & loop]
    yield set().union(*map(_numbers, around))
    defined = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    todo, seen = list(around), list(around)
    while todo:
        names = {node.id for node in ast.walk(todo.pop()) if isinstance(node, ast.Name)}
        new = [defined[name] for name in sorted(names & set(defined)) if defined[name] not in seen]
        todo += new
        seen += new
    yield set().union(*map(_numbers, seen))


def _numbers(node: ast.stmt) -> set[int]:
    decorators = getattr(node, "decorator_list", [])
    return set(range(min(n.lineno for n in (node, *decorators)), (node.end_lineno or node.lineno) + 1))


def _is_in_a_branch(module: ast.Module, number: int) -> bool:
    """Return whether a line stands in one branch of an ``if`` that has another: which of them ran is not known."""
    forks = (node for node in ast.walk(module) if isinstance(node, ast.If) and node.orelse)
    return any(number in _numbers(node) and number > (node.test.end_lineno or 0) for node in forks)


def _is_in_loop(module: ast.Module, number: int, over: str | None, code: dict[int, str]) -> bool:
    """Return whether the innermost loop around a line runs over what matches ``over``."""
    if over is None:
        return True
    loops = [node for node in ast.walk(module) if isinstance(node, ast.For | ast.While) and number in _numbers(node)]
    return bool(loops) and re.search(over, code[max(loop.lineno for loop in loops)]) is not None


def _code(source: str) -> dict[int, str]:
    """Return the lines by their numbers, without comments and docstrings."""
    lines = dict(enumerate(source.splitlines(), start=1))
    at_start = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (first, column), last = token.start, token.end[0]
        if token.type == tokenize.COMMENT:
            lines[first] = lines[first][:column]
        elif token.type == tokenize.STRING and at_start:
            for number in range(first, last + 1):
                lines[number] = ""
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            at_start = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    return lines
