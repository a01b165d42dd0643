"""The tables of one comparison: verdicts, fits of the step times, warm-up, and the facts of the arms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mnist_loop.report import facts
from mnist_loop.report.facts import WITHOUT_VERDICT
from mnist_loop.report.step_times import arm_lines, what_changed
from mnist_loop.report.stored import ArmResult, CellResult, ComparisonResult
from mnist_loop.report.tables.side_by_side import differences, shared
from mnist_loop.report.tables.step_time_table import step_time_table
from mnist_loop.report.tables.table import Column, Table, Value
from mnist_loop.statistics.ratio import Ratio
from mnist_loop.support.numbers import Quantity, Unit, given_share, seconds


def comparison_tables(comparison: ComparisonResult) -> Iterator[Table]:
    """Yield the tables of a comparison."""
    yield verdict_table(comparison)
    if any(arm_lines(comparison)):
        yield arm_step_time_table(comparison)
    if any(arm.first_step_s or arm.warm_up_s for arm in comparison.arms):
        yield warm_up_table(comparison)
    yield arm_table(comparison)


def verdict_table(comparison: ComparisonResult) -> Table:
    """Return ratio and verdict of each arm, the smallest change that the run detects, and the control."""
    first = comparison.arms[0].label
    headings = ("part", "batch size", "arm", "images/s", "time ratio", "verdict", "smallest visible change", "control")
    text = {"part", "arm", "verdict"}
    rows = []
    for place, cell in enumerate(comparison.cells):
        if not place or comparison.cells[place - 1].workload != cell.workload:
            rows.append(_first_row(cell, first))
        rows.append(_row(cell, comparison.arms[cell.arm]))
    others = ", ".join(arm.label for arm in _others(comparison.arms))
    confidences = sorted({cell.ratio.confidence for cell in comparison.cells})
    at = dict.fromkeys(given_share(one) for one in (*confidences[:1], *confidences[-1:]))
    told = f"; intervals at {' to '.join(at)}" if at else ""
    return Table(
        title=f"{comparison.file.name}: {others} compared with {first}",
        columns=[Column(name, name not in text) for name in headings],
        rows=rows,
        caption=f"time ratio: time of the arm / time of {first}; above 1 it is slower{told}; margin "
        f"{given_share(comparison.margin)}; the control is a second copy of {first}",
        notes=(*_reasons(comparison), *_how_it_ended(comparison)),
    )


def arm_step_time_table(comparison: ComparisonResult) -> Table:
    """Return the fit T(b) = t0 + b / r of each arm, and how they differ."""
    found = zip(comparison.arms, arm_lines(comparison), strict=True)
    rows = [((arm.label,), line) for arm, line in found if line is not None]
    return step_time_table(("arm",), rows, tuple(what_changed(comparison)))


def warm_up_table(comparison: ComparisonResult) -> Table:
    """Return the first step and the seconds until the times were steady, which are part of no ratio."""
    sizes = sorted({size for arm in comparison.arms for size in (*arm.first_step_s, *arm.warm_up_s)})
    return Table(
        title="Before the measurement",
        columns=(Column("arm", numbers=False), Column("batch size"), Column("first step"), Column("until steady")),
        rows=[
            (arm.label, size, _seconds(arm.first_step_s.get(size)), _seconds(arm.warm_up_s.get(size)))
            for size in sizes
            for arm in comparison.arms
            if size in arm.first_step_s or size in arm.warm_up_s
        ],
        caption="first step: compilation included; until steady: the blocks before the change-point, median of the "
        "restarts; none of it is part of a ratio",
    )


def arm_table(comparison: ComparisonResult) -> Table:
    """Return the facts in which the arms differ, and their rulers."""
    told = facts.split_facts([facts.arm_facts(arm) for arm in comparison.arms])
    run = facts.machine_facts(comparison.machine) | dict(comparison.facts)
    caption = f"{shared(told)}; " + ", ".join(f"{name} {value}" for name, value in run.items())
    labels = [arm.label for arm in comparison.arms]
    return differences("What differs", labels, told, [arm.ruler for arm in comparison.arms], caption)


def _first_row(cell: CellResult, label: str) -> tuple[Value, ...]:
    rate = Quantity(cell.base_rate, Unit.RATE)
    return cell.workload.part, cell.workload.batch_size, label, rate, 1, "the first", None, None


def _row(cell: CellResult, arm: ArmResult) -> tuple[Value, ...]:
    return (
        cell.workload.part,
        cell.workload.batch_size,
        arm.label,
        Quantity(cell.rate, Unit.RATE),
        _ratio(cell.ratio),
        cell.verdict.value,
        Quantity(cell.detectable, Unit.SHARE),
        None if cell.control is None else _ratio(cell.control),
    )


def _reasons(comparison: ComparisonResult) -> Iterator[str]:
    for cell in comparison.cells:
        size = cell.workload.batch_size
        yield f"{comparison.arms[cell.arm].label} at batch size {size}: {cell.verdict.value}: {cell.reason}"


def _how_it_ended(comparison: ComparisonResult) -> Iterator[str]:
    if WITHOUT_VERDICT in comparison.facts:
        yield f"There is no verdict on what was {WITHOUT_VERDICT}: {comparison.facts[WITHOUT_VERDICT]}."
    ended = {
        "certain": "It ended when all verdicts were certain",
        "budget": "It ended when its budget was spent",
        "full": "It ended when its file could hold no more",
        "interrupted": "It was interrupted",
    }.get(comparison.ended, f"It ended: {comparison.ended}")
    yield f"{ended}, after {seconds(comparison.seconds)} of measuring."


def _others(found: Sequence[ArmResult]) -> list[ArmResult]:
    return [arm for arm in found[1:] if not arm.control]


def _ratio(found: Ratio) -> Quantity:
    return Quantity(found.estimate, Unit.RATIO, (found.low, found.high))


def _seconds(value: float | None) -> Quantity | None:
    return None if value is None else Quantity(value, Unit.SECONDS)
