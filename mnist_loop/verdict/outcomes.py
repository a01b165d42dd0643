"""The outcome of each law, as a test item and JUnit show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from mnist_loop.support.console import plain_text
from mnist_loop.verdict.text import diagnosis as diagnosis_page

if TYPE_CHECKING:
    from mnist_loop.verdict.diagnosis import Diagnosis
    from mnist_loop.verdict.verdict import LawResult, Verdict

State = Literal["held", "not run", "broken", "cost", "info", "consequence", "ignored"]


@dataclass(frozen=True)
class Outcome:
    """What became of one law.

    Attributes:
        state: "broken", "cost" or "info" by the severity of its bug; "consequence": another broken law explains it;
            "not run": no case could decide it; "ignored": its author silenced it.
        text: the evidence, the reason, or where it was silenced.
    """

    state: State
    text: str


def outcomes(verdict: Verdict) -> dict[str, Outcome]:
    """Return the outcome of each law, by id, in the order of the catalogue."""
    diagnosed = {found.id: _diagnosed(found, verdict) for found in verdict.diagnoses}
    return {law.bug.id: diagnosed.get(law.bug.id) or _undiagnosed(law, verdict, diagnosed) for law in verdict.laws}


def _diagnosed(found: Diagnosis, verdict: Verdict) -> Outcome:
    if found.ignored:
        return Outcome("ignored", found.ignored)
    return Outcome(_broken(found.severity), plain_text(diagnosis_page(verdict, found)).strip())


def _undiagnosed(law: LawResult, verdict: Verdict, diagnosed: dict[str, Outcome]) -> Outcome:
    bug = law.bug
    if law.status == "held":
        return Outcome("held", f"held in {law.cases} case{'' if law.cases == 1 else 's'}")
    if law.status == "not-run":
        return Outcome("not run", law.reason)
    if law.reason in diagnosed:
        return Outcome("consequence", f"a consequence of {law.reason}")
    evidence = verdict.failed[bug.id]
    text = f"{bug.id}: {bug.title}\n  {evidence}\n  Most likely: {bug.hint_for(evidence)}."
    return Outcome(_broken(bug.severity), text)


def _broken(severity: str) -> State:
    return "broken" if severity == "bug" else cast("State", severity)
