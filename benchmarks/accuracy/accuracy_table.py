"""The table of a file: accuracy and seconds of each target, over the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from scipy.special import stdtrit

from mnist_loop.report.tables.markdown import table_to_markdown
from mnist_loop.report.tables.table import Column, Table
from mnist_loop.support.numbers import seconds

from .trainings import VALIDATION, Training

CONFIDENCE = 0.95
COLUMNS = (
    Column("target", numbers=False),
    Column("model", numbers=False),
    Column("epochs"),
    Column("engine", numbers=False),
    Column("seeds"),
    Column("accuracy"),
    Column("reaches it", numbers=False),
    Column("training"),
    Column("compiling, first and later"),
    Column("evaluation"),
)


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return the t-interval of the mean; None of fewer than two values."""
    if len(values) < 2:
        return None
    t = float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    half = t * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def accuracy_markdown(head: dict[str, Any], results: Sequence[Training]) -> str:
    """Lay the results of one file out as a Markdown table."""
    rows = []
    for facts in head["recipes"]:
        own = [result for result in results if result.target == facts["target"]]
        for engine in sorted({result.engine for result in own}):
            rows.append(_row(facts, [result for result in own if result.engine == engine]))
    return table_to_markdown(Table("", COLUMNS, rows, _caption(head)))


def _row(facts: dict[str, Any], results: Sequence[Training]) -> tuple[str, ...]:
    target, accuracies = facts["target"] / 100, [result.accuracy for result in results]
    verdict = "yes" if mean(accuracies) >= target else "no"
    return (
        f"{facts['target']} %",
        facts["model"],
        str(results[0].epochs),
        results[0].engine,
        str(len(results)),
        _spread([100 * accuracy for accuracy in accuracies], "{:.2f}", " %"),
        f"{verdict}; {sum(accuracy >= target for accuracy in accuracies)} of {len(results)} seeds",
        _spread([result.train_s for result in results], "{:.3g}", " s"),
        _compiling(results),
        seconds(mean(result.evaluate_s for result in results)),
    )


def _spread(values: Sequence[float], form: str, unit: str) -> str:
    found = t_interval(values)
    within = "" if found is None else f" [{form.format(found[0])}, {form.format(found[1])}]"
    return form.format(mean(values)) + unit + within


def _compiling(results: Sequence[Training]) -> str:
    if results[0].engine != "compiled":
        return "-"
    parts = [[result.prepare_s for result in results if result.first is first] for first in (True, False)]
    return ", ".join(seconds(mean(part)) if part else "-" for part in parts)


def _caption(head: dict[str, Any]) -> str:
    held_out = f"accuracy on the last {VALIDATION} training images, the others trained on" if head["validation"] else ""
    facts = (
        f"{head['machine']['cpu']}, {head['machine']['logical_cores']} logical cores",
        f"CPU threads: {head['threads']}",
        f"torch {head['software']['torch']}, Python {head['software']['python']}",
        f"data: {head['data']}",
        held_out or "accuracy on the test set, looked at once after the last epoch",
        f"mean and {CONFIDENCE:.0%} t-interval over the seeds; a target is reached where the mean is no less",
    )
    return "; ".join(facts)
