"""The bugs behind the findings of all cases, each with its consequences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mnist_loop.bugs import BUGS, Bug
from mnist_loop.verdict.finding import ENDED, SEVERITIES, Finding, Judgement


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """One bug of a loop.

    Attributes:
        finding: its finding in the smallest case in which nothing else explains it.
        count: number of cases in which it shows.
        consequences: for each other law that is broken because of it, one finding.
        ignored: where its author silenced it; "" if that was not done.
    """

    finding: Finding
    count: int
    consequences: tuple[Finding, ...] = ()
    ignored: str = ""

    def __repr__(self) -> str:
        """Return the id, the evidence, the number of cases and the consequences."""
        consequences = ", ".join(finding.id for finding in self.consequences) or "none"
        cases = f"{self.count} case{'' if self.count == 1 else 's'}"
        return f"Diagnosis({self.id}: {self.finding.text}; in {cases}, consequences: {consequences})"

    @property
    def id(self) -> str:
        """The bug's id."""
        return self.finding.id

    @property
    def bug(self) -> Bug:
        """The catalogue's entry."""
        return self.finding.bug

    @property
    def hint(self) -> str:
        """The fix for what was found."""
        return self.bug.hint_for(self.finding.text)

    @property
    def severity(self) -> str:
        """That of its finding: one of "bug", "cost" and "info"."""
        return self.finding.severity


def diagnose(judgements: Iterable[Judgement], ignored: Callable[[Finding], str] = lambda _: "") -> list[Diagnosis]:
    """Gather the findings of all cases into bugs with their consequences, the primary bug first.

    Args:
        judgements: one for each case.
        ignored: says where a finding was silenced, "" if it was not. A bug is silenced if each of its findings is.
    """
    judgements = list(judgements)
    found: dict[str, list[Finding]] = {}
    for judgement in judgements:
        for finding in judgement.findings:
            found.setdefault(finding.id, []).append(finding)
    owners = _owners(found, judgements)
    diagnoses = []
    for id_, findings in found.items():
        if id_ not in owners:
            loud = [finding for finding in findings if not ignored(finding)]
            causes = [finding for finding in loud or findings if finding.consequence_of is None] or loud or findings
            consequences = tuple(found[other][0] for other in owners if _root(other, owners) == id_)
            diagnoses.append(Diagnosis(causes[0], len(findings), consequences, "" if loud else ignored(causes[0])))
    return sorted(
        diagnoses,
        key=lambda d: (bool(d.ignored), SEVERITIES.index(d.severity), d.id not in ENDED, d.bug.catch_all, -d.count),
    )


def _owners(found: Mapping[str, list[Finding]], judgements: list[Judgement]) -> dict[str, str]:
    """Return, for each broken law that another bug explains, the id of that bug.

    A bug explains a finding in a case in which both show; it has to do so in most of the cases of that law.
    """
    order = list(BUGS)
    broken = [{finding.id for finding in judgement.findings} for judgement in judgements]
    owners: dict[str, str] = {}
    for id_ in found:
        shown = [ids for ids in broken if id_ in ids]
        for cause in sorted(found.keys() - {id_}, key=order.index):
            both = sum(cause in ids for ids in shown)
            explained = any(one.is_cause_of(id_) for one in found[cause]) and 2 * both >= len(shown)
            if explained and _root(cause, owners) != id_:
                owners.setdefault(id_, cause)
    return owners


def _root(id: str, owners: Mapping[str, str]) -> str:  # noqa: A002  # the catalogue's word
    """Return the bug that explains ``id`` in the end."""
    while id in owners:
        id = owners[id]  # noqa: A001  # as above
    return id
