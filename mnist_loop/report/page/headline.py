"""The top of the page: the main finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mnist_loop.report.plots import comparison_findings, sweep_findings, words
from mnist_loop.report.plots.configurations import subjects, version_key
from mnist_loop.report.stored import ComparisonResult, StoredResults, SweepResult
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from mnist_loop.support.numbers import seconds

MOST_OTHERS = 4  # sentences below the first; the others stand in their sections
ENDS = {
    "certain": "it ended when all verdicts were certain",
    "budget": "it ended when its time was spent",
    "full": "it ended when its file could hold no more",
    "interrupted": "it was interrupted",
}


@dataclass(frozen=True)
class Headline:
    """The top of the page.

    Attributes:
        first: the main finding.
        others: the findings of other results.
        counts: each verdict that occurs, with its count.
        about: the numbers of comparisons, sweeps and refused files.
    """

    first: str
    others: Sequence[str]
    counts: Sequence[tuple[SpeedVerdict, int]]
    about: str


def headline(results: StoredResults) -> Headline:
    """Return the top of the page: comparisons before sweeps, which are weaker evidence."""
    told = [f"{comparison_findings.comparison_finding(one)}." for one in results.comparisons] + [
        f"{one}." for one in _limits(results.sweeps)
    ]
    if not told:
        told = ["Nothing was measured in these files." if results.sweeps else "There is nothing to report."]
        if results.refused:
            told = [f"Nothing could be reported: {_refused(results)}."]
    others = told[1 : 1 + MOST_OTHERS]
    if len(told) > 1 + MOST_OTHERS:
        others.append(f"And {words.count(len(told) - 1 - MOST_OTHERS, 'finding')} more below.")
    counts = Counter(cell.verdict for one in results.comparisons for cell in one.cells)
    return Headline(
        told[0], others, [(verdict, counts[verdict]) for verdict in SpeedVerdict if counts[verdict]], _about(results)
    )


def how_it_ended(comparison: ComparisonResult) -> str:
    """Return one sentence: how long a comparison measured, and why it ended."""
    why = ENDS.get(comparison.ended, f"it ended: {comparison.ended}")
    return f"Measured in pairs for {seconds(comparison.seconds)} on {words.shorten(comparison.machine.name)}; {why}."


def _limits(sweeps: Sequence[SweepResult]) -> list[str]:
    """Return what limits training with the newest torch on each machine and device."""
    told = []
    for configurations in subjects(sweeps).values():
        newest = {(one.sweep.machine.name, one.setting.device): one for one in configurations}
        for one in sorted(newest.values(), key=lambda one: version_key(one.torch), reverse=True):
            where = f" ({words.shorten(one.sweep.machine.name)}, {one.setting.device})" if len(newest) > 1 else ""
            told.append(f"{sweep_findings.limit_finding(one.parts)}{where}")
    return told


def _about(results: StoredResults) -> str:
    parts = [
        words.count(len(found), name)
        for found, name in ((results.comparisons, "paired comparison"), (results.sweeps, "stored sweep"))
        if found
    ]
    if results.refused:
        parts.append(_refused(results))
    return ", ".join(parts)


def _refused(results: StoredResults) -> str:
    return f"{words.count(len(results.refused), 'file')} refused"
