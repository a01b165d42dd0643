"""What verify finds in each mutant: ``python -m tests.matrix`` writes docs/matrix.md (minutes)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mnist_loop.bugs import BUGS, SUBJECTS
from mnist_loop.verdict.diagnosis import Diagnosis, diagnose
from mnist_loop.verdict.finding import ENDED, Judgement, ranked
from mnist_loop.verification.laws.judge import LAWS
from tests.loops.mutants import MUTANTS, Mutant
from tests.verdicts import in_battery

PAGE = Path(__file__).parents[1] / "docs" / "matrix.md"
NAMES = {mutant.name: mutant for mutant in MUTANTS}

INTRODUCTION = """\
# Mutants and laws

Each row is a loop with one known bug (a mutant), from [`tests/loops/mutants/`](../tests/loops/mutants), and what
`verify` found in the fixed battery of cases.

- **bug**: the bug that was written into the loop. [The bugs](bugs.md) explains each.
- **mutant**: module and name of the loop. Several rows can have the same bug, written in different ways.
- **named**: the bug that `verify` names first. It is in bold if it is not the one in the first column.
- **consequences**: other laws that are broken because of that bug.
- **beside it**: other findings with their severity. Most are costs.
- **cases**: the number of cases in which the bug showed, and of all cases.

*This page is generated: `python -m tests.matrix`.*
"""

LAW_LIST = """\
## What each law adds

For each law, the number of mutants that it names, and what `verify` would say of the first of them without this law.
"""


def first_codings() -> dict[str, Mutant]:
    """Return the first registered mutant of each bug."""
    found: dict[str, Mutant] = {}
    for mutant in MUTANTS:
        found.setdefault(mutant.bug, mutant)
    return found


def without(law: str, judgements: Iterable[Judgement]) -> list[Diagnosis]:
    """Return the diagnoses of the same runs without one law."""
    return diagnose(
        Judgement(
            judgement.case,
            ranked([finding for finding in judgement.findings if finding.id != law]),
            [id_ for id_ in judgement.held if id_ != law],
        )
        for judgement in judgements
    )


def render() -> str:
    """Return the page as Markdown. Mutants that were not verified yet are verified."""
    return "\n".join([INTRODUCTION, *_tables(), LAW_LIST, *_laws(), ""])


def _tables() -> Iterator[str]:
    for subject in SUBJECTS:
        rows = [m for id_, bug in BUGS.items() if bug.subject == subject for m in MUTANTS if m.bug == id_]
        yield f"## {subject[0].upper()}{subject[1:]}\n"
        yield "| bug | mutant | named | consequences | beside it | cases |\n|---|---|---|---|---|---:|"
        yield from map(_row, rows)
        yield from (f"\n*{id_}: not decided. {bug.undecided}*" for id_, bug in BUGS.items() if _undecided(id_, subject))
        yield ""


def _undecided(id_: str, subject: str) -> bool:
    return bool(BUGS[id_].undecided) and BUGS[id_].subject == subject


def _row(mutant: Mutant) -> str:
    found = in_battery(mutant.name)
    primary = found.diagnoses[0] if found.diagnoses else None
    named = "nothing" if primary is None else primary.id
    cells = (
        f"[{mutant.bug}](bugs.md#{mutant.bug})",
        f"`{mutant.name}`",
        named if named == mutant.bug else f"**{named}**",
        "" if primary is None else ", ".join(consequence.id for consequence in primary.consequences),
        ", ".join(f"{other.id} ({other.finding.severity})" for other in found.diagnoses[1:]),
        f"{0 if primary is None else primary.count} of {len(found.judgements)}",
    )
    return "| " + " | ".join(cells) + " |"


def _laws() -> Iterator[str]:
    yield "| law | what it says | mutants | without it |\n|---|---|---:|---|"
    for id_, law in LAWS.items():
        named = [mutant for mutant in MUTANTS if in_battery(mutant.name).primary == id_]
        left = without(id_, in_battery(named[0].name).judgements) if named else []
        other = f"{left[0].id} ({left[0].finding.severity})" if left else "nothing"
        yield f"| [{id_}](bugs.md#{id_}) | {law.bug.law} | {len(named)} | {other if named else ''} |"
    ends = ", ".join(id_ for id_ in ENDED if id_ not in LAWS)
    yield f"\n{ends} have no law: the process that starts the loop sees how it ends."


def main() -> None:
    """Verify every mutant and write the page."""
    for number, mutant in enumerate(MUTANTS, start=1):
        found = in_battery(mutant.name).primary
        wrong = "" if found == mutant.bug else f": {mutant.bug} is named {found}"
        sys.stderr.write(f"{number}/{len(MUTANTS)} {mutant.name}{wrong}\n")
    PAGE.write_text(render())


if __name__ == "__main__":
    main()
