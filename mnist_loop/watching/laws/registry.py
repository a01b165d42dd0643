"""What a law of a watched training is, and the decorator that registers one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mnist_loop.bugs import BUGS, Severity
from mnist_loop.watching.log import WatchLog
from mnist_loop.watching.transparent import Site


class NothingToJudge(Exception):
    """Raised by a law for which a training has nothing to judge. The message says what it would need."""


@dataclass(frozen=True)
class Evidence:
    """How a training breaks a law.

    Attributes:
        time: number of the event in which it showed.
        text: the sentence that says how.
        site: the author's line.
        level: the severity, where it is not that of the bug.
    """

    time: int
    text: str
    site: Site | None = None
    level: Severity | None = None


Body = Callable[[WatchLog], Iterator[Evidence]]
WATCHED: dict[str, Body] = {}


def law(bug: str) -> Callable[[Body], Body]:
    """Make a function the law of a bug: it is given the log, and yields evidence where that breaks the law."""

    def register(body: Body) -> Body:
        assert "check" in BUGS[bug].decided_by, f"{body.__name__} decides {bug}: name it in decided_by of its entry"
        assert bug not in WATCHED, f"two laws for {bug}"
        WATCHED[bug] = body
        return body

    return register


def must(holds: object, reason: str) -> None:
    """Raise `NothingToJudge` with the reason unless it holds."""
    if not holds:
        raise NothingToJudge(reason)
