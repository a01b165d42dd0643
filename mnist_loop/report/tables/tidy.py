"""All measurements and verdicts as one table in long form: one row each, one column a quantity, in plain units.

Columns, in this order; what a row has not is empty:

| column | rows | meaning |
|---|---|---|
| kind | all | measurement (of a sweep), accuracy (of a sweep), cell (of a comparison) |
| file, when, machine, cpu | all | where it is stored, when it began (ISO 8601), where it was measured |
| torch, python | all | versions; of a cell, those of its arm |
| part, batch_size, data, model | all | the workload |
| device, threads, dtype | all | the setting |
| images_per_s, low, high, q1, q3 | measurement | median of the rounds, its 95% interval, quartiles |
| images_per_s | cell | median of the arm's blocks |
| rounds, steps | measurement, cell | how many rounds, and steps in a round |
| first_step_s, warm_up_s | measurement, cell | before what counts: the first step; until it was warm |
| memory_mib | measurement | the most that it added to the process's memory |
| accuracy, epochs, training_s, evaluation_s | accuracy | share of test images labelled rightly, and what it took |
| arm, base | cell | labels of the arm, and of the first one, with which it is compared |
| base_images_per_s | cell | median of the first arm's blocks |
| time_ratio, ratio_low, ratio_high, confidence | cell | time of the arm / of the first, and its interval |
| verdict, margin, smallest_visible_change | cell | what can be said, below which share a difference does not matter |
| control_ratio, control_low, control_high | cell | time of the second copy of the first arm / of the first |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mnist_loop.report.stored import (
    CellResult,
    ComparisonResult,
    Machine,
    Measurement,
    Setting,
    StoredResults,
    SweepResult,
    WorkloadId,
)
from mnist_loop.report.tables.table import Column, Table, Value
from mnist_loop.statistics.ratio import Ratio

COLUMNS = (
    *("kind", "file", "when", "machine", "cpu", "torch", "python", "part", "batch_size", "data", "model"),
    *("device", "threads", "dtype", "images_per_s", "low", "high", "q1", "q3", "rounds", "steps"),
    *("first_step_s", "warm_up_s", "memory_mib", "accuracy", "epochs", "training_s", "evaluation_s"),
    *("arm", "base", "base_images_per_s", "time_ratio", "ratio_low", "ratio_high", "confidence"),
    *("verdict", "margin", "smallest_visible_change", "control_ratio", "control_low", "control_high"),
)
LongRow = dict[str, Value]


def tidy(results: StoredResults) -> Table:
    """Return the table of all results."""
    rows = [[row.get(name) for name in COLUMNS] for row in _rows(results)]
    return Table("", [Column(name) for name in COLUMNS], rows)


def _rows(results: StoredResults) -> Iterator[LongRow]:
    """Yield a row for each measurement, accuracy and cell."""
    for sweep in results.sweeps:
        for measurement in sweep.measurements:
            yield _sweep(sweep) | _measurement(measurement)
        for found in sweep.accuracies:
            row: LongRow = {"accuracy": found.accuracy, "epochs": found.epochs, "device": found.device}
            row |= {"training_s": found.training_s, "evaluation_s": found.evaluation_s}
            yield _sweep(sweep) | row | {"kind": "accuracy"}
    for comparison in results.comparisons:
        for cell in comparison.cells:
            yield _cell(comparison, cell)


def _sweep(sweep: SweepResult) -> LongRow:
    return {"file": str(sweep.file), "when": sweep.when} | _where(sweep.machine, sweep.software)


def _where(machine: Machine, software: Mapping[str, str]) -> LongRow:
    versions = {name: software.get(name) for name in ("torch", "python")}
    return {"machine": machine.name, "cpu": machine.cpu, **versions}


def _workload(workload: WorkloadId) -> LongRow:
    return {
        "part": workload.part,
        "batch_size": workload.batch_size,
        "data": workload.data,
        "model": workload.model,
    }


def _setting(setting: Setting) -> LongRow:
    return {"device": setting.device, "threads": setting.threads, "dtype": setting.dtype}


def _measurement(found: Measurement) -> LongRow:
    return {
        "kind": "measurement",
        **_workload(found.workload),
        **_setting(found.setting),
        "images_per_s": found.median,
        "low": found.low,
        "high": found.high,
        "q1": found.q1,
        "q3": found.q3,
        "rounds": len(found.rates),
        "steps": found.steps,
        "first_step_s": found.first_step_s,
        "warm_up_s": found.warm_up_s,
        "memory_mib": found.memory_mib,
    }


def _cell(comparison: ComparisonResult, cell: CellResult) -> LongRow:
    arm, base = comparison.arms[cell.arm], comparison.arms[0]
    return {
        "kind": "cell",
        "file": str(comparison.file),
        "when": comparison.when,
        **_where(comparison.machine, arm.software),
        **_workload(cell.workload),
        **{name: arm.settings.get(name) for name in ("device", "threads", "dtype")},
        "images_per_s": cell.rate,
        "rounds": len(cell.pairs),
        "first_step_s": arm.first_step_s.get(cell.workload.batch_size),
        "warm_up_s": arm.warm_up_s.get(cell.workload.batch_size),
        "arm": arm.label,
        "base": base.label,
        "base_images_per_s": cell.base_rate,
        "time_ratio": cell.ratio.estimate,
        "ratio_low": cell.ratio.low,
        "ratio_high": cell.ratio.high,
        "confidence": cell.ratio.confidence,
        "verdict": cell.verdict.value,
        "margin": comparison.margin,
        "smallest_visible_change": cell.detectable,
        **_control(cell.control),
    }


def _control(ratio: Ratio | None) -> LongRow:
    if ratio is None:
        return {}
    return {"control_ratio": ratio.estimate, "control_low": ratio.low, "control_high": ratio.high}
