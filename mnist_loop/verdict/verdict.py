"""The verdict on a loop: what was judged, what became of each law, and the bugs. `str` gives it as text."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from mnist_loop.bugs import BUGS, Bug, Tool, decided_by
from mnist_loop.support.console import plain_text
from mnist_loop.verdict import text
from mnist_loop.verdict.diagnosis import Diagnosis, diagnose
from mnist_loop.verdict.finding import ENDED, WITHOUT_LAW, Finding, Judgement
from mnist_loop.verdict.ignore import silencing, wrong_ignores
from mnist_loop.verdict.location import SourceLine, likely_line
from mnist_loop.verdict.snippet import Asked, snippet

if TYPE_CHECKING:
    from mnist_loop.verdict.expected import Expected
    from mnist_loop.verification.cases.case import Case

Status = Literal["held", "broken", "not-run"]
CLEAN, FAILED = 0, 1  # exit codes


@dataclass(frozen=True)
class LawResult:
    """What became of one law.

    Attributes:
        bug: what breaking the law is called.
        status: whether it holds.
        cases: number of cases in which it holds, or is broken.
        reason: why it was not run; of a broken law that is a consequence, the id of the bug that explains it.
        asked_for: it was among the laws that the loop was to be held to.
    """

    bug: Bug
    status: Status
    cases: int = 0
    reason: str = ""
    asked_for: bool = True


@dataclass(repr=False)
class Verdict:
    """The verdict on a loop.

    Attributes:
        name: of the loop.
        file: the source file of what trains; None if it has none.
        lines: the first and the last line of what trains.
        found_evaluate_by: how the evaluation was found, "declared" or "beside" the loop; None without one.
        evaluate_name: name of the evaluation, where it is known.
        asked: how the verification was asked for.
        judgements: one for each case, in the order in which they ran.
        random_cases: number of cases that were drawn at random.
        seed: of the random cases.
        seconds: how long it took.
        output: the last of what the loop printed.
        not_isolated: why the loop ran in this process; "" if it had a process of its own.
        remarks: what else is said of how it ran, a sentence each.
        skipped: the cases that the loop need not be able to do and could not, with the reason.
        expected: the bugs that are known, by id.
        ignore: ids of the bugs that are silenced everywhere, each with the place that says so.
        tool: the command that judged: "verify" replayed a loop, "check" watched a training.
        watched: what was watched, in a sentence; "" for a loop that was verified.
    """

    name: str
    file: str | None = None
    lines: tuple[int, int] | None = None
    found_evaluate_by: str | None = None
    evaluate_name: str | None = None
    asked: Asked = field(default_factory=Asked)
    judgements: list[Judgement] = field(default_factory=list)
    random_cases: int = 0
    seed: int = 0
    seconds: float = 0.0
    output: str = ""
    not_isolated: str = ""
    remarks: tuple[str, ...] = ()
    skipped: dict[Case, str] = field(default_factory=dict)
    expected: Mapping[str, Expected] = field(default_factory=dict)
    ignore: Mapping[str, str] = field(default_factory=dict)
    tool: Tool = "verify"
    watched: str = ""

    def __str__(self) -> str:
        """Return what ``mnist-loop verify`` shows, without colour."""
        return plain_text(text.page(self)).rstrip("\n")

    def __repr__(self) -> str:
        """Return the name, the result and the bugs."""
        return f"Verdict(name={self.name!r}, result={self.result!r}, bugs={[diagnosis.id for diagnosis in self.bugs]})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from mnist_loop.verdict.html import as_html

        return as_html(self)

    # -- the bugs ------------------------------------------------------------------------------------------------------

    @property
    def diagnoses(self) -> list[Diagnosis]:
        """The bugs, costs and infos: the primary one first, those that are silenced last."""
        known: dict[tuple[str, SourceLine | None], str] = {}

        def ignored(finding: Finding) -> str:
            key = (finding.id, finding.line)
            if key not in known:
                known[key] = self.ignored(finding)
            return known[key]

        return diagnose(self.judgements, ignored)

    @property
    def primary(self) -> str | None:
        """The id of the bug that explains the most; None if every law holds."""
        return next((diagnosis.id for diagnosis in self.diagnoses), None)

    @property
    def bugs(self) -> list[Diagnosis]:
        """The diagnoses of severity "bug" that are not silenced."""
        return [found for found in self.diagnoses if found.severity == "bug" and not found.ignored]

    def unexpected(self, severity: str = "bug") -> list[Diagnosis]:
        """Return the diagnoses of this severity that are neither expected nor silenced."""
        return [d for d in self.diagnoses if d.severity == severity and not d.ignored and d.id not in self.expected]

    def ignored(self, finding: Finding) -> str:
        """Return where a finding is silenced, such as "my_train.py:6"; "" if it is not, or is expected."""
        if finding.id in self.expected:
            return ""
        line = self._line(finding)
        return self.ignore.get(finding.id) or silencing(finding.id, line, self.file, self.lines)

    @property
    def notes(self) -> list[str]:
        """How the loop ran, and what is wrong with comments that silence, a sentence each."""
        files = [
            self.file,
            *(finding.line.file for some in self._findings().values() for finding in some if finding.line),
        ]
        wrong = [note for file in dict.fromkeys(files) if file is not None for note in wrong_ignores(file)]
        return [*self.remarks, *wrong]

    def likely_line(self, diagnosis: Diagnosis) -> SourceLine | None:
        """Return the line in which a bug most likely is; None if that cannot be told."""
        return self._line(diagnosis.finding)

    def _line(self, finding: Finding) -> SourceLine | None:
        return finding.line or likely_line(finding.bug, self.file, self.lines)

    def snippet(self, diagnosis: Diagnosis) -> str:
        """Return code that shows a bug again; "" without a case."""
        case = diagnosis.finding.case
        return "" if case is None else snippet(self.asked, self.name, diagnosis.id, case)

    # -- the laws ------------------------------------------------------------------------------------------------------

    @property
    def failed(self) -> dict[str, str]:
        """The laws that are broken, with the first evidence."""
        return {id_: findings[0].text for id_, findings in self._findings().items()}

    @property
    def held(self) -> dict[str, int]:
        """The laws that hold, with the number of cases in which they were decided."""
        counts: dict[str, int] = {}
        for judgement in self.judgements:
            for id_ in judgement.held:
                counts[id_] = counts.get(id_, 0) + 1
        failed = self.failed
        return {id_: count for id_, count in counts.items() if id_ not in failed}

    @property
    def not_run(self) -> dict[str, str]:
        """The laws that no case could decide, and the bugs that no run decides at all, with the reason."""
        reasons = {id_: bug.undecided for id_, bug in decided_by(self.tool).items() if bug.undecided}
        decided = {*self.held, *self.failed}
        for judgement in self.judgements:
            for id_, reason in judgement.not_run.items():
                if id_ not in decided:
                    reasons.setdefault(id_, reason)
        return reasons

    @property
    def laws(self) -> list[LawResult]:
        """What became of each law that `tool` decides, in the order of the catalogue."""
        return list(self._law_results())

    def laws_that(self, status: Status) -> list[LawResult]:
        """Return the laws of this status."""
        return [law for law in self.laws if law.status == status]

    def _findings(self) -> dict[str, list[Finding]]:
        found: dict[str, list[Finding]] = {}
        for judgement in self.judgements:
            for finding in judgement.findings:
                found.setdefault(finding.id, []).append(finding)
        return found

    def _law_results(self) -> Iterator[LawResult]:
        found, held, not_run = self._findings(), self.held, self.not_run
        causes = {finding.id: diagnosis.id for diagnosis in self.diagnoses for finding in diagnosis.consequences}
        ended = next((id_ for id_ in found if id_ in ENDED), None)
        for id_, bug in decided_by(self.tool).items():
            if id_ in found:
                yield LawResult(bug, "broken", len(found[id_]), causes.get(id_, ""))
            elif self.asked.only is not None and id_ not in self.asked.only:
                yield LawResult(bug, "not-run", reason="not asked for", asked_for=False)
            elif id_ in held:
                yield LawResult(bug, "held", held[id_])
            elif id_ in not_run:
                yield LawResult(bug, "not-run", reason=not_run[id_])
            elif id_ in WITHOUT_LAW and self.judgements:
                yield self._came_back(bug)
            else:
                yield LawResult(bug, "not-run", reason=f"{ended} came first" if ended else "no case decides it")

    def _came_back(self, bug: Bug) -> LawResult:
        if self.not_isolated:
            return LawResult(bug, "not-run", reason="the loop ran in this process, which nothing protected")
        count = sum(not any(finding.id in ENDED for finding in judgement.findings) for judgement in self.judgements)
        return LawResult(bug, "held", count) if count else LawResult(bug, "not-run", reason="no case came to an end")

    # -- the result ----------------------------------------------------------------------------------------------------

    @property
    def held_though_expected(self) -> list[Expected]:
        """The expected bugs that did not occur."""
        missing = {law.bug.id for law in self.laws if law.status != "broken" and law.asked_for}
        return [entry for id_, entry in self.expected.items() if id_ in missing]

    @property
    def result(self) -> Literal["clean", "bugs", "nothing-run"]:
        """The verdict in a word; "bugs" are such as are not expected."""
        # That a loop came back says nothing of how it trains, unless that was the question.
        counts = set(BUGS) - set(WITHOUT_LAW) | set(self.asked.only or ())
        if not any(law.status == "broken" or (law.status == "held" and law.bug.id in counts) for law in self.laws):
            return "nothing-run"
        return "bugs" if self.unexpected() else "clean"

    @property
    def exit_code(self) -> int:
        """0 if there is no unexpected bug and each expected one occurred, else 1."""
        return CLEAN if self.result == "clean" and not self.held_though_expected else FAILED

    @property
    def environment(self) -> dict[str, str | int | float | None]:
        """Where and how the loop was judged."""
        return {
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "device": str(self.asked.options.get("device", "cpu")),
            "seed": self.seed,
            "cases": len(self.judgements),
            "random_cases": self.random_cases,
            "seconds": self.seconds,
        }
