"""For Bencher: Bencher Metric Format, which ``bencher run --adapter json`` reads.

A file is of one machine, Bencher's testbed. Its name is an argument of ``bencher run`` and in no benchmark's name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.report.exports.series import field, name_of, name_of_cell, nothing, number, unique
from mnist_loop.report.stored import StoredResults

Metric = dict[str, float]

THROUGHPUT = "throughput"  # Bencher's own, in operations a second: an operation is one image
MEMORY = "memory"  # bytes
RELATIVE_TIME = "relative-time"  # time of an arm / time of the first one
MEASURES = {THROUGHPUT, MEMORY, RELATIVE_TIME}
MIB = 2**20


def bencher_json(results: StoredResults) -> str:
    """Return the JSON object: name of the benchmark to measures, each with its value and interval.

    Raises:
        UserError: there is nothing to export, there are several machines, one benchmark is there twice, or a value
            is not a finite number above zero.
    """
    _one_machine(results)
    benchmarks = unique([*_of_sweeps(results), *_of_comparisons(results)])
    if not benchmarks:
        raise nothing(results, "bencher", "a sweep or a comparison")
    return json.dumps(benchmarks, indent=1, allow_nan=False) + "\n"


def is_bencher_json(document: Any) -> bool:
    """Tell whether a decoded document is one that `bencher_json` made."""
    return (
        isinstance(document, dict)
        and bool(document)
        and all(
            re.search(r", batch \d+$", name) and isinstance(measures, dict) and measures and measures.keys() <= MEASURES
            for name, measures in document.items()
        )
    )


def _one_machine(results: StoredResults) -> None:
    of_sweeps = {sweep.machine.name for sweep in results.sweeps}
    machines = sorted(of_sweeps | {comparison.machine.name for comparison in results.comparisons})
    if len(machines) > 1:
        raise UserError(
            f"these results are of {len(machines)} machines ({', '.join(map(field, machines))}), and a file for "
            "Bencher is of one testbed: export the results of one machine at a time"
        )


def _of_sweeps(results: StoredResults) -> Iterator[tuple[str, Path, dict[str, Metric]]]:
    for sweep in results.sweeps:
        for of in sweep.measurements:
            name = name_of(of)
            measures = {THROUGHPUT: _metric(number(of.median, name, sweep.file), of.low, of.high)}
            if of.memory_mib is not None and math.isfinite(of.memory_mib):
                measures[MEMORY] = {"value": of.memory_mib * MIB}
            yield name, sweep.file, measures


def _of_comparisons(results: StoredResults) -> Iterator[tuple[str, Path, dict[str, Metric]]]:
    for comparison in results.comparisons:
        for cell in comparison.cells:
            name, ratio = name_of_cell(comparison, cell), cell.ratio
            value = number(ratio.estimate, name, comparison.file)
            yield name, comparison.file, {RELATIVE_TIME: _metric(value, ratio.low, ratio.high)}


def _metric(value: float, low: float, high: float) -> Metric:
    """Return a value with the finite ends of its interval."""
    ends = {"lower_value": low, "upper_value": high}
    return {"value": value} | {name: end for name, end in ends.items() if math.isfinite(end)}
