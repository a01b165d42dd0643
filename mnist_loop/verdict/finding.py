"""What was found in one case: the broken laws as findings, and the judgement that holds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mnist_loop.bugs import BUGS, Bug, Severity
from mnist_loop.verdict.location import SourceLine

if TYPE_CHECKING:
    from mnist_loop.verification.cases.case import Case

SEVERITIES = ("bug", "info", "cost")  # what may change the result comes before what takes time or memory
# The ways in which a loop ends its process; they explain whatever else was found in the same case.
ENDED = tuple(bug.id for bug in BUGS.values() if bug.ends)
# The ones that no law decides: they hold in each case from which the loop came back.
WITHOUT_LAW = tuple(bug.id for bug in BUGS.values() if bug.ends and not bug.law)


@dataclass(frozen=True)
class Finding:
    """A broken law.

    Attributes:
        id: of the bug.
        time: when it first showed, as a number of events.
        text: the evidence.
        case: where it showed; None for a training that was watched as it is.
        consequence_of: the id of the finding in the same case that explains this one; None if there is none.
        line: where it happened, in the author's files; None where only the bug's patterns can tell.
        level: the severity, where it is less certain here than the catalogue says; None for that of the bug.
    """

    id: str
    time: int
    text: str
    case: Case | None = None
    consequence_of: str | None = None
    line: SourceLine | None = None
    level: Severity | None = None

    @property
    def bug(self) -> Bug:
        """The catalogue's entry."""
        return BUGS[self.id]

    @property
    def severity(self) -> str:
        """One of `SEVERITIES`."""
        return self.level or self.bug.severity

    def is_cause_of(self, id: str) -> bool:  # noqa: A002  # the catalogue's word
        """Say whether a loop with this bug breaks the law ``id`` because of it."""
        return id not in ENDED and (self.id in ENDED or id in self.bug.explains)


@dataclass(repr=False)
class Judgement:
    """What the laws say of one case.

    Attributes:
        case: the case; None for a training that was watched as it is.
        findings: the broken laws, the primary one first.
        held: ids of the laws that hold.
        not_run: ids of the laws that could not be decided, with the reason.
        unseen: the loop steps an optimizer, and no forward of the model was seen.
    """

    case: Case | None
    findings: list[Finding] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    unseen: bool = False

    def __repr__(self) -> str:
        """Return the case, the broken laws, and how many there are of the others."""
        broken = [finding.id for finding in self.findings]
        return f"Judgement({self.case!r}, broken={broken}, held={len(self.held)}, not_run={len(self.not_run)})"

    @property
    def primary(self) -> Finding | None:
        """The first finding; None if every law holds."""
        return self.findings[0] if self.findings else None


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Sort the findings of one case, causes before consequences; note in each consequence what explains it."""
    order = list(BUGS)
    findings = sorted(findings, key=lambda finding: order.index(finding.id))
    result = []
    for finding in findings:
        cause = next((f.id for f in findings if f.id != finding.id and f.is_cause_of(finding.id)), None)
        result.append(replace(finding, consequence_of=cause))
    return sorted(
        result,
        key=lambda f: (f.consequence_of is not None, SEVERITIES.index(f.severity), f.bug.catch_all, f.time),
    )
