"""docs/reach.md: what `check` says of each script of the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import median

import torch

from tests.corpus.manifest import Reading, Script
from tests.corpus.run import STEPS, Found, Outcome

Outcomes = Sequence[tuple[Script, Outcome]]

INTRODUCTION = """\
# Reach

What `mnist-loop check` says of public training scripts, each run as it is, on the CPU: torch {torch}.

- **verdict**: the bugs by their id; infos and costs in brackets. "-": none.
- **steps**: the optimizer steps that were watched, at most {steps}. 0: the script updates its parameters by hand, or
  other processes train.
- **decided**: the number of bugs that could be decided.
- **overhead**: time of the same steps, watched by unwatched. One pair on a busy machine: a single one says little, and
  the first steps are those that are watched most closely.
- **same**: after the same steps, parameters and random numbers are bitwise those of the unwatched run. Empty where
  no optimizer steps in this process, or where two unwatched runs differ too.

The data is a small stand-in in the layout that each script reads, made by
[`tests/corpus/stand_in.py`](../tests/corpus/stand_in.py). The scripts run in an environment of their own
([`sitecustomize.py`](../tests/corpus/environment/sitecustomize.py)): seeded, without a network, and torchvision takes
any file that is there for the right one, whatever its checksum. A script that does not run on this torch by itself is
no candidate. [`manifest.toml`](../tests/corpus/manifest.toml) has the commit, the arguments and the data of each.

*This page is generated: `python -m tests.corpus FOLDER`.*
"""


def write(page: Path, outcomes: Outcomes, listed: int) -> None:
    """Write the page."""
    lines = [INTRODUCTION.format(torch=torch.__version__, steps=STEPS), *_summary(outcomes, listed)]
    lines += ["", "## The bugs that were found, each read by hand", "", *_bugs(outcomes)]
    lines += ["", "## Infos and costs", "", *_others(outcomes)]
    lines += ["", "## What was not the same", "", *_differences(outcomes)]
    lines += ["", "## All scripts", *_tables(outcomes)]
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def unread(outcomes: Outcomes) -> list[str]:
    """Return a sentence for each bug that nobody has read, and for each that is false."""
    told = []
    for script, outcome in outcomes:
        for one in bugs(outcome):
            reading = script.readings.get(one.bug)
            if reading is None:
                told.append(f"{script.name}: {one.bug} was found and not read: {one.place}: {one.text}")
            elif not reading.right:
                told.append(f"{script.name}: {one.bug} is false: {reading.why}")
    return told


def bugs(outcome: Outcome) -> list[Found]:
    """Return the findings of severity bug."""
    return [one for one in outcome.found if one.severity == "bug"]


def _summary(outcomes: Outcomes, listed: int) -> list[str]:
    reached = sum(one.decided > 0 for _, one in outcomes)
    found = sum(bool(bugs(one)) for _, one in outcomes)
    repositories = {script.repository for script, _ in outcomes}
    read = [reading for script, one in outcomes for bug in bugs(one) if (reading := script.readings.get(bug.bug))]
    told = (
        f"**{len(outcomes)} of {listed} scripts of {len(repositories)} repositories were run, and {reached} reached a "
        f"verdict.** Bugs were found in {found} of them: {len(read)} findings were read by hand, and "
        f"{sum(one.right for one in read)} are right."
    )
    if factors := [one.overhead for _, one in outcomes if one.overhead is not None]:
        compared = [one.same for _, one in outcomes if one.same is not None]
        told += (
            f"\nThe median overhead of {len(factors)} is {median(factors):.2f}. Bitwise the same: {sum(compared)} of "
            f"{len(compared)}."
        )
    return [told]


def _tables(outcomes: Outcomes) -> list[str]:
    rows: list[str] = []
    for repository, group in groupby(outcomes, lambda one: one[0].repository):
        own = list(group)
        commit = own[0][0].commit
        rows += ["", f"### {repository} at [{commit[:7]}](https://github.com/{repository}/tree/{commit})", ""]
        rows += ["| script | verdict | steps | decided | overhead | same |", "|---|---|---|---|---|---|"]
        for script, outcome in own:
            overhead = "" if outcome.overhead is None else f"{outcome.overhead:.2f}"
            same = {None: "", True: "yes", False: "no"}[outcome.same]
            cells = [script.path, _verdict(outcome), str(outcome.steps), str(outcome.decided or ""), overhead, same]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def _link(script: Script, line: str = "") -> str:
    path = script.path.replace(" ", "%20").replace("(", "%28").replace(")", "%29")
    return f"[{script.name}](https://github.com/{script.repository}/blob/{script.commit}/{path}{line})"


def _verdict(outcome: Outcome) -> str:
    if not outcome.decided:
        return "no verdict"
    found = [one.bug if one.severity == "bug" else f"({one.bug})" for one in outcome.found]
    return ", ".join(found) or "-"


def _bugs(outcomes: Outcomes) -> list[str]:
    rows = []
    for script, outcome in outcomes:
        for one in bugs(outcome):
            reading = script.readings.get(one.bug) or Reading("", right=False, why="not read yet")
            rows.append(f"- **{one.bug}** in {_link(script)}: {one.text}. `{one.place}`\\")
            rows.append(f"  {'Right' if reading.right else 'False'} ({reading.line}): {reading.why}")
    return rows or ["None."]


def _others(outcomes: Outcomes) -> list[str]:
    rows = []
    for script, outcome in outcomes:
        for one in outcome.found:
            if one.severity != "bug":
                place = f" `{one.place}`" if one.place else ""
                reading = script.readings.get(one.bug)
                rows.append(
                    f"- {one.bug} in {_link(script)}: {one.text}.{place}" + (f" {reading.why}" if reading else "")
                )
    return rows or ["None."]


def _differences(outcomes: Outcomes) -> list[str]:
    rows = [f"- {_link(script)}: parameters or random numbers" for script, one in outcomes if one.same is False]
    return rows or ["Nothing: all scripts that could be compared left the same parameters and random numbers."]
