"""Holds a trace to every law, and names the one bug that explains the most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mnist_loop.bugs import BUGS
from mnist_loop.verification.cases.cases import Case
from mnist_loop.verification.laws import (
    accumulation,
    data,
    gradients,
    losses,
    metrics,
    modes,
    resources,
    schedules,
    state,
)
from mnist_loop.verification.laws.registry import LAWS, Law, NotRun
from mnist_loop.verification.recording.reading import Trace

__all__ = ["LAWS", "SUBJECTS", "Finding", "Judgement", "Law", "judge", "ranked"]

SUBJECTS = (gradients, losses, accumulation, modes, state, data, metrics, schedules, resources)

SEVERITIES = ("bug", "cost", "info")
# They say what a bug changed, whichever it is: a finding that has a name goes first.
CATCH_ALL = ("loss-differs", "gradient-differs", "update-differs", "state-differs", "metric-differs", "loop-raises")
# How a loop ends whose process does not live: what else was seen of it matters little.
ENDED = ("loop-hangs", "loop-exits", "loop-crashes", "loop-exhausts-memory")


@dataclass(frozen=True)
class Finding:
    """A law that was broken.

    Attributes:
        id: the bug.
        time: when it first showed, in events of the recording.
        text: how it showed, in numbers.
        case: where it showed.
        consequence_of: the id of the finding in the same case that explains it; None where none does.
    """

    id: str
    time: int
    text: str
    case: Case
    consequence_of: str | None = None

    @property
    def severity(self) -> str:
        """How bad: "bug", "cost" or "info"."""
        return BUGS[self.id].severity


@dataclass
class Judgement:
    """One case, held to every law.

    Attributes:
        case: the case.
        findings: what was broken, the primary one first.
        held: ids of the laws that hold.
        not_run: ids of the laws that could not be decided, with the reason.
    """

    case: Case
    findings: list[Finding] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)

    @property
    def primary(self) -> Finding | None:
        """The finding that explains the most; None where every law holds."""
        return self.findings[0] if self.findings else None


def judge(trace: Trace, laws: Iterable[Law] | None = None) -> Judgement:
    """Hold the trace to the laws, by default all."""
    judgement = Judgement(trace.case)
    found = []
    for law in LAWS.values() if laws is None else laws:
        try:
            evidence = law.first_evidence(trace)
        except NotRun as reason:
            judgement.not_run[law.id] = str(reason)
            continue
        except Exception as error:  # noqa: BLE001  # a loop may do to its model what no replay can follow
            judgement.not_run[law.id] = f"it cannot be decided here: {type(error).__name__}: {error}"
            continue
        if evidence is None:
            judgement.held.append(law.id)
        else:
            found.append(Finding(law.id, *evidence, case=trace.case))
    judgement.findings = ranked(found)
    return judgement


def ranked(findings: list[Finding]) -> list[Finding]:
    """Order findings of one case: causes by severity and time, then what each has as its consequence."""
    ids = {finding.id for finding in findings}
    result = []
    for finding in findings:
        cause = next((other for other in sorted(ids - {finding.id}, key=_place) if explains(other, finding.id)), None)
        result.append(Finding(finding.id, finding.time, finding.text, finding.case, cause))
    return sorted(
        result,
        key=lambda f: (
            f.consequence_of is not None,
            SEVERITIES.index(f.severity),
            f.id in CATCH_ALL,
            f.time,
            _place(f.id),
        ),
    )


def explains(cause: str, consequence: str) -> bool:
    """Return whether a loop with the bug ``cause`` breaks the law ``consequence`` because of it."""
    if consequence in ENDED:
        return False
    return cause in ENDED or (cause in LAWS and consequence in LAWS[cause].explains)


def _place(id: str) -> int:  # noqa: A002  # the catalogue's word
    return list(BUGS).index(id)
