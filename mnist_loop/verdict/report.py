"""A verdict with all that is said about it: what is expected, the most likely lines, the code to see it again."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from mnist_loop.bugs import BUGS, Bug
from mnist_loop.verdict.location import SourceLine, likely_line
from mnist_loop.verdict.snippet import Asked, snippet
from mnist_loop.verification.laws.judge import ENDED, LAWS, Finding

if TYPE_CHECKING:
    from mnist_loop.verdict.expected import Expected
    from mnist_loop.verification.cases.cases import Case
    from mnist_loop.verification.trial import Diagnosis, Verdict

Status = Literal["held", "broken", "not-run"]
CLEAN, FAILED = 0, 1
NOT_ASKED_FOR = "not asked for"


@dataclass(frozen=True)
class Row:
    """What became of one law.

    Attributes:
        bug: what breaking it is called.
        status: whether it held.
        cases: number of cases in which it held, or in which it is broken.
        reason: why it was not run; of a broken law that is a consequence, of what.
    """

    bug: Bug
    status: Status
    cases: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Diagnosed:
    """A bug of the loop.

    Attributes:
        bug: from the catalogue.
        text: how it shows, in numbers.
        case: the smallest in which it shows.
        count: number of cases in which it shows.
        consequences: what it brings with it.
        snippet: code to paste that shows it again.
        location: the most likely line, where that can be told.
        expected: why it is expected; None where it is not.
    """

    bug: Bug
    text: str
    case: Case
    count: int
    consequences: tuple[Finding, ...]
    snippet: str
    location: SourceLine | None
    expected: Expected | None


@dataclass(frozen=True)
class Report:
    """What is said about a verdict.

    Attributes:
        verdict: the verdict.
        diagnoses: the bugs, the primary one first.
        rows: what became of each law, in the order of the catalogue.
        held_though_expected: the expected failures that did not occur.
        asked: how it was asked for.
    """

    verdict: Verdict
    diagnoses: tuple[Diagnosed, ...]
    rows: tuple[Row, ...]
    expected: Mapping[str, Expected] = field(default_factory=dict)
    held_though_expected: tuple[Expected, ...] = ()
    asked: Asked = field(default_factory=Asked)

    def rows_that(self, status: Status) -> list[Row]:
        """Return the rows of this status."""
        return [row for row in self.rows if row.status == status]

    def unexpected(self, severity: str = "bug") -> list[Diagnosed]:
        """Return the diagnoses of this severity that are not expected."""
        return [d for d in self.diagnoses if d.bug.severity == severity and d.expected is None]

    @property
    def result(self) -> Literal["clean", "bugs", "nothing-run"]:
        """The verdict in a word."""
        # That a loop came back says nothing of how it trains, unless that was the question.
        counts = {*LAWS, *(self.asked.only or ())}
        if not self.rows_that("broken") and not any(row.bug.id in counts for row in self.rows_that("held")):
            return "nothing-run"
        return "bugs" if self.unexpected() else "clean"

    @property
    def exit_code(self) -> int:
        """0 where there is no unexpected bug, and the expected ones are all there; else 1."""
        return CLEAN if self.result == "clean" and not self.held_though_expected else FAILED

    @property
    def environment(self) -> dict[str, str | int | float | None]:
        """Where and how it was run."""
        options = self.asked.options
        return {
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "device": str(options.get("device", "cpu")),
            "seed": self.verdict.seed,
            "cases": len(self.verdict.judgements),
            "random_cases": self.verdict.random_cases,
            "seconds": self.verdict.seconds,
        }


def report(verdict: Verdict, asked: Asked | None = None, expected: Mapping[str, Expected] | None = None) -> Report:
    """Gather what is said about a verdict.

    Args:
        verdict: what `mnist_loop.verification.trial.verify` returns.
        asked: how it was asked for.
        expected: the expected failures, by id.
    """
    asked, expected = asked or Asked(), expected or {}
    rows = tuple(_rows(verdict, asked.only))
    return Report(
        verdict=verdict,
        diagnoses=tuple(_diagnosed(diagnosis, verdict, asked, expected) for diagnosis in verdict.diagnoses),
        rows=rows,
        expected=expected,
        held_though_expected=tuple(_missing(expected, rows, asked.only)),
        asked=asked,
    )


def _diagnosed(diagnosis: Diagnosis, verdict: Verdict, asked: Asked, expected: Mapping[str, Expected]) -> Diagnosed:
    finding, of = diagnosis.finding, verdict.description
    return Diagnosed(
        bug=BUGS[diagnosis.id],
        text=finding.text,
        case=finding.case,
        count=diagnosis.count,
        consequences=diagnosis.consequences,
        snippet=snippet(asked, verdict.name, diagnosis.id, finding.case),
        location=likely_line(diagnosis.id, of.file, of.lines),
        expected=expected.get(diagnosis.id),
    )


def _rows(verdict: Verdict, only: tuple[str, ...] | None) -> Iterable[Row]:
    held, not_run = verdict.held, verdict.not_run
    found: dict[str, list[Finding]] = {}
    for judgement in verdict.judgements:
        for finding in judgement.findings:
            found.setdefault(finding.id, []).append(finding)
    causes = {finding.id: d.id for d in verdict.diagnoses for finding in d.consequences}
    ended = next((id_ for id_ in found if id_ in ENDED), None)
    for id_, bug in BUGS.items():
        if id_ in found:
            yield Row(bug, "broken", len(found[id_]), causes.get(id_, ""))
        elif only is not None and id_ not in only:
            yield Row(bug, "not-run", reason=NOT_ASKED_FOR)
        elif id_ in held:
            yield Row(bug, "held", held[id_])
        elif id_ in not_run:
            yield Row(bug, "not-run", reason=not_run[id_])
        elif id_ in ENDED and id_ not in LAWS and verdict.judgements:
            # No law judges them: that the loop came back, in a process of its own, is how they hold.
            in_process = "the loop ran in this process, which nothing protected"
            yield Row(bug, "not-run", reason=in_process) if verdict.not_isolated else _came_back(bug, verdict)
        else:
            yield Row(bug, "not-run", reason=f"{ended} came first" if ended else "no case decides it")


def _came_back(bug: Bug, verdict: Verdict) -> Row:
    lived = sum(not any(finding.id in ENDED for finding in judgement.findings) for judgement in verdict.judgements)
    return Row(bug, "held", lived) if lived else Row(bug, "not-run", reason="no case came to an end")


def _missing(expected: Mapping[str, Expected], rows: Iterable[Row], only: tuple[str, ...] | None) -> Iterable[Expected]:
    status = {row.bug.id: row.status for row in rows}
    for id_, entry in expected.items():
        if status[id_] != "broken" and (only is None or id_ in only):
            yield entry
