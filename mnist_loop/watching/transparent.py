"""Functions put around those of torch, such that the program under them sees no difference; and the author's line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, FunctionType, TracebackType
from typing import Any, NamedTuple

from mnist_loop.support.authored import is_authored

# Python passes over frames of such a file when it looks for the line that a warning is about. (warnings.warn counts
# `stacklevel` frames upwards, and leaves out those of the import system, which it knows by these two words.)
UNSEEN = "<mnist_loop importlib._bootstrap>"
DEEPEST = 200  # frames; the author's line is rarely more than 20 away


class Site(NamedTuple):
    """A place in the author's files."""

    file: str
    line: int


def unseen(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, hidden from warnings: they name the line of its caller's caller, as they do without it."""
    assert isinstance(function, FunctionType)
    function.__code__ = function.__code__.replace(co_filename=UNSEEN)
    return function


def site() -> Site | None:
    """Return the innermost line of the author's files that is being run; None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(DEEPEST):
        if frame is None:
            return None
        file = frame.f_code.co_filename
        if not file.startswith("<") and is_authored(file):
            return Site(file, frame.f_lineno)
        frame = frame.f_back
    return None


def without_ours(error: BaseException, ours: str) -> BaseException:
    """Take the frames of the files below the folder ``ours`` out of the tracebacks of an error and of its causes."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = _filtered(one.__traceback__, ours)
            todo += [one.__cause__, one.__context__]
    return error


def _filtered(traceback: TracebackType | None, ours: str) -> TracebackType | None:
    entries = []
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file != UNSEEN and not file.startswith(ours):
            entries.append(traceback)
        traceback = traceback.tb_next
    result: TracebackType | None = None
    for entry in reversed(entries):
        result = TracebackType(result, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return result
