"""What a report says of each law, as one test item tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from mnist_loop.support.console import plain_text
from mnist_loop.verdict.report import Report, Row
from mnist_loop.verdict.text import diagnosis as diagnosis_page

State = Literal["held", "not run", "broken", "cost", "info", "consequence"]


@dataclass(frozen=True)
class Outcome:
    """What became of one law.

    Attributes:
        state: "broken", "cost", "info": it is broken, and how bad that is; "consequence": it is broken because another
            is; "not run": no case could decide it.
        text: how, or why not.
    """

    state: State
    text: str


def outcomes(report: Report) -> dict[str, Outcome]:
    """Return the outcome of each law, by id, in the order of the catalogue."""
    diagnosed = {
        diagnosis.bug.id: Outcome(
            "broken" if diagnosis.bug.severity == "bug" else diagnosis.bug.severity,
            plain_text(diagnosis_page(diagnosis)).strip(),
        )
        for diagnosis in report.diagnoses
    }
    return {row.bug.id: diagnosed.get(row.bug.id) or _undiagnosed(row, report, diagnosed) for row in report.rows}


def _undiagnosed(row: Row, report: Report, diagnosed: dict[str, Outcome]) -> Outcome:
    if row.status == "held":
        return Outcome("held", f"held in {row.cases} case{'' if row.cases == 1 else 's'}")
    if row.status == "not-run":
        return Outcome("not run", row.reason.replace("--evaluate", "--loop-evaluate"))  # pytest's name of the option
    cause = diagnosed.get(row.reason)
    # A bug whose cause fails no test must not be hidden behind it.
    if cause is not None and (cause.state == "broken" or row.bug.severity != "bug"):
        return Outcome("consequence", f"a consequence of {row.reason}")
    text = f"{row.bug.id}: {row.bug.title}\n  {report.verdict.failed[row.bug.id]}\n  Most likely: {row.bug.hint}."
    return Outcome("broken" if row.bug.severity == "bug" else cast("State", row.bug.severity), text)
