"""The fits T(b) = t0 + b / r of the arms of a comparison and of the parts of a sweep, and how they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mnist_loop.report.stored import CellResult, ComparisonResult, Measurement, SweepResult
from mnist_loop.statistics.step_time import StepTimeFit, fit_step_time

FEWEST_BATCH_SIZES = 3
# Half the width of a 95% interval in standard errors.
HALF_WIDTH = 1.96
# The smallest error of the logarithm of a time. Identical processes differ by more; without it one batch size with a
# small error would decide the fit.
LEAST_ERROR = 0.001


def arm_lines(comparison: ComparisonResult) -> list[StepTimeFit | None]:
    """Return the fit of each arm; None for the control, and where there are too few batch sizes or no fit."""
    return [None if arm.control else _line(comparison, index) for index, arm in enumerate(comparison.arms)]


def what_changed(comparison: ComparisonResult) -> Iterator[str]:
    """Yield a sentence for each other arm: whether its interval of t0 or r is apart from that of the first arm."""
    first, *others = arm_lines(comparison)
    for arm, line in zip(comparison.arms[1:], others, strict=True):
        if first is None or line is None:
            continue
        changes = [
            _change("dispatch", first.dispatch_s_interval, line.dispatch_s_interval, "longer", "shorter"),
            _change("arithmetic", first.rate_interval, line.rate_interval, "faster", "slower"),
        ]
        told = " and ".join(change for change in changes if change)
        yield f"{arm.label}: {told or 'no change of dispatch or arithmetic can be told: their intervals overlap'}."


def part_lines(sweep: SweepResult) -> dict[tuple[str, str], StepTimeFit]:
    """Return the fit of each device and part that was measured at enough batch sizes."""
    parts: dict[tuple[str, str], dict[int, Measurement]] = {}
    for found in sweep.measurements:
        parts.setdefault((found.setting.device, found.workload.part), {})[found.workload.batch_size] = found
    lines = {key: step_time_fit([sizes[size] for size in sorted(sizes)]) for key, sizes in parts.items()}
    return {key: line for key, line in lines.items() if line is not None}


def step_time_fit(measured: Sequence[Measurement]) -> StepTimeFit | None:
    """Return the fit of the times of a step by batch size; None where there is none."""
    sizes = [one.workload.batch_size for one in measured]
    seconds = [size / one.median for size, one in zip(sizes, measured, strict=True)]
    return fit_step_time(sizes, seconds, [_error_of(one) for one in measured])


def _error_of(one: Measurement) -> float:
    """Return the standard error of the logarithm of a time, from the interval of its rate."""
    if not 0 < one.low < one.high < math.inf:
        return LEAST_ERROR
    return max(math.log(one.high / one.low) / (2 * HALF_WIDTH), LEAST_ERROR)


def _line(comparison: ComparisonResult, arm: int) -> StepTimeFit | None:
    cells = {cell.workload.batch_size: cell for cell in comparison.cells if cell.arm == (arm or cell.arm)}
    if len(cells) < FEWEST_BATCH_SIZES:
        return None
    sizes = sorted(cells)
    seconds = [size / (cells[size].rate if arm else cells[size].base_rate) for size in sizes]
    return fit_step_time(sizes, seconds, [_error(cells[size]) for size in sizes])


def _error(cell: CellResult) -> float:
    """Return a bound of the standard error of the logarithm of a time: that of a ratio of two times."""
    return cell.ratio.standard_error


def _change(name: str, before: tuple[float, float], after: tuple[float, float], more: str, less: str) -> str:
    if after[0] > before[1]:
        return f"{name} is {more}"
    return f"{name} is {less}" if after[1] < before[0] else ""
