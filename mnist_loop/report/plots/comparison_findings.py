"""The finding of a comparison in one sentence, for the titles of its plots and the top of the page."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_loop.report.plots import words
from mnist_loop.report.stored import CellResult, ComparisonResult
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from mnist_loop.support import numbers

DECIDED = (SpeedVerdict.SLOWER, SpeedVerdict.FASTER)


def comparison_finding(comparison: ComparisonResult) -> str:
    """Return the finding: the largest difference, where there are several arms."""
    if not comparison.cells:
        return f"Nothing can be said of {_others(comparison)} yet: no round was finished"
    arms = {cell.arm for cell in comparison.cells}
    if len(arms) == 1:
        return arm_finding(comparison, comparison.cells)
    different = [cell for cell in comparison.cells if cell.verdict in DECIDED]
    base = arm_name(comparison, 0)
    if not different:
        same = all(cell.verdict is SpeedVerdict.SAME for cell in comparison.cells)
        every = f"All {len(arms) + 1} are equally fast, within {numbers.given_share(comparison.margin)}"
        return every if same else f"No difference from {base} can be told for any of {words.count(len(arms), 'arm')}"
    most = max(different, key=_size)
    affected = len({cell.arm for cell in different})
    return (
        f"{arm_name(comparison, most.arm)} is {words.than(_by(most), base)} at batch {most.workload.batch_size}, "
        f"the largest difference; {affected} of {len(arms)} differ from {base}"
    )


def arm_finding(comparison: ComparisonResult, cells: Sequence[CellResult]) -> str:
    """Return the finding for one arm."""
    arm, base = arm_name(comparison, cells[0].arm), arm_name(comparison, 0)
    cells = sorted(cells, key=lambda cell: cell.workload.batch_size)
    if len({cell.verdict for cell in cells}) == 1:
        return _unanimous(comparison, cells, arm, base)
    parts: list[str] = []
    for verdict in (SpeedVerdict.SLOWER, SpeedVerdict.FASTER, SpeedVerdict.SAME):
        chosen = [cell for cell in cells if cell.verdict is verdict]
        if chosen:
            told = _told(chosen) if parts else words.than(_told(chosen), base)
            parts.append(f"{told} at batch {words.join_words([cell.workload.batch_size for cell in chosen])}")
    undecided = [cell.workload.batch_size for cell in cells if cell.verdict is SpeedVerdict.INCONCLUSIVE]
    rest = f"; undecided at batch {words.join_words(undecided)}" if undecided else ""
    return f"{arm} is {', '.join(parts)}{rest}"


def arm_name(comparison: ComparisonResult, arm: int) -> str:
    """Return the label of an arm, shortened to fit."""
    return words.shorten(comparison.arms[arm].label, 32) or f"arm {arm}"


def _unanimous(comparison: ComparisonResult, cells: Sequence[CellResult], arm: str, base: str) -> str:
    where = f"batch {cells[0].workload.batch_size}" if len(cells) == 1 else f"all {len(cells)} batch sizes"
    verdict = cells[0].verdict
    if verdict is SpeedVerdict.SAME:
        return f"{arm} is as fast as {base} at {where}, within {numbers.given_share(comparison.margin)}"
    if verdict is SpeedVerdict.INCONCLUSIVE:
        return f"No difference can be told between {arm} and {base} at {where}"
    return f"{arm} is {words.than(_told(cells), base)} at {where}"


def _told(cells: Sequence[CellResult]) -> str:
    """Return "3.1% slower", or "1.2% to 3.1% slower" for several."""
    verdict = cells[0].verdict
    if verdict is SpeedVerdict.SAME:
        return "as fast"
    least, most = min(cells, key=_size), max(cells, key=_size)
    low, high = _by(least), _by(most)
    if low == high:
        return high
    kind = " slower" if verdict is SpeedVerdict.SLOWER else " faster"
    return f"{low.removesuffix(kind)} to {high}" if low.endswith(kind) and high.endswith(kind) else f"up to {high}"


def _by(cell: CellResult) -> str:
    ratio = cell.ratio.estimate
    return words.slower_by(ratio) if cell.verdict is SpeedVerdict.SLOWER else words.faster_by(ratio)


def _size(cell: CellResult) -> float:
    ratio = cell.ratio.estimate
    return max(ratio, 1 / ratio if ratio > 1e-308 else float("inf"))


def _others(comparison: ComparisonResult) -> str:
    others = [arm_name(comparison, number) for number, arm in enumerate(comparison.arms) if number and not arm.control]
    return words.join_words(others) if others else "it"
