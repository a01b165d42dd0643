"""What a law is, and the decorator that registers one. `mnist_loop.bugs` says how to add one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mnist_loop.bugs import BUGS, Bug, Severity
from mnist_loop.verification.recording.trace import Trace

# When it showed, in events of the recording, the sentence that says how, and the severity if it is less certain here.
Evidence = tuple[int, str] | tuple[int, str, Severity]
Body = Callable[[Trace], Iterator[Evidence]]

# Why a further run of a case, which a law compares with, can be missing.
RUNS = {
    "again": "the case was run once",
    "poisoned": "the loop is handed no test data",
    "relabelled": "the loop is handed no test data",
    "resumed": "declare save= and load= for a loop of one epoch a call that writes checkpoints",
}


class NotRun(Exception):
    """Raised by a law that the trace cannot decide. The message says why."""


@dataclass(frozen=True)
class Law:
    """A law: what every correct loop obeys.

    Attributes:
        bug: what breaking it is called; its `Bug.law` says what the law is.
        body: yields evidence that a trace breaks it; nothing where it holds.
        needs: other runs of the same case that it compares with.
        numbers: it compares numbers, and is decided as long as they are finite.
    """

    bug: Bug
    body: Body
    needs: tuple[str, ...] = ()
    numbers: bool = True

    @property
    def id(self) -> str:
        """The bug's id."""
        return self.bug.id

    def first_evidence(self, trace: Trace) -> Evidence | None:
        """Return where the trace first breaks the law; None where it holds.

        Raises:
            NotRun: the trace cannot decide it.
        """
        for run in self.needs:
            if run not in trace.others:
                raise NotRun(RUNS[run])
        if not self.numbers:
            return next(iter(self.body(trace)), None)
        runs = (trace, *(trace.others[run] for run in self.needs))
        diverges = next((run.divergence for run in runs if run.divergence is not None), None)
        for evidence in self.body(trace):
            if diverges is None or evidence[0] < diverges.time:
                return evidence
        must(diverges is None, str(diverges))
        return None


REGISTERED: dict[str, Law] = {}


def law(bug: str, *, needs: tuple[str, ...] = (), numbers: bool = True) -> Callable[[Body], Body]:
    """Make a function the law of a bug: it is given a trace and yields evidence where the trace breaks the law.

    The function's name is the law in short; the bug's entry in the catalogue has its text.
    """

    def register(body: Body) -> Body:
        assert bug in BUGS, f"the law {body.__name__} is for {bug}, which has no entry in mnist_loop/bugs/"
        assert bug not in REGISTERED, f"two laws for {bug}"
        REGISTERED[bug] = Law(BUGS[bug], body, needs, numbers)
        return body

    return register


def must(holds: object, reason: str) -> None:
    """Raise `NotRun` with the reason unless it holds."""
    if not holds:
        raise NotRun(reason)
