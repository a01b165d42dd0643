"""For github-action-benchmark: the list of values that its tool ``customBiggerIsBetter`` reads.

Bigger is better for all values: images per second, and how many times as fast an arm of a comparison is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

from mnist_loop.report.exports.series import field, line, name_of, name_of_cell, nothing, number, unique
from mnist_loop.report.stored import CellResult, ComparisonResult, Machine, Measurement, StoredResults, SweepResult

VERSIONS = ("torch", "python", "numpy", "cuda", "mnist_loop")  # those that can change a number
LINE_LENGTH = 300  # of a line of the tooltip
UNITS = IMAGES, SPEED = "images/s", "times as fast"
MEASURED = "measured "  # begins the last line of the tooltip
DIGITS = 6  # shown in a pull request; no measurement is more exact


class GithubEntry(TypedDict):
    """One value with its name, unit, uncertainty and tooltip."""

    name: str
    unit: str
    value: float
    range: str
    extra: str


def github_json(results: StoredResults) -> str:
    """Return the JSON array, one entry for each measurement and each cell of a comparison.

    Raises:
        UserError: there is neither, one series has two values, or a value is not a finite number above zero.
    """
    entries = list(unique(_entries(results)).values())
    if not entries:
        raise nothing(results, "github", "a sweep or a comparison")
    return json.dumps(entries, indent=1, allow_nan=False) + "\n"


def is_github_json(document: Any) -> bool:
    """Tell whether a decoded document is one that `github_json` made."""
    return isinstance(document, list) and bool(document) and all(map(_is_entry, document))


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != GithubEntry.__annotations__.keys():
        return False
    return entry["unit"] in UNITS and str(entry["extra"]).rpartition("\n")[2].startswith(MEASURED)


def _entries(results: StoredResults) -> Iterator[tuple[str, Path, GithubEntry]]:
    for sweep in results.sweeps:
        for measurement in sweep.measurements:
            entry = _throughput(sweep, measurement)
            yield entry["name"], sweep.file, entry
    for comparison in results.comparisons:
        for cell in comparison.cells:
            entry = _speed(comparison, cell)
            yield entry["name"], comparison.file, entry


def _throughput(sweep: SweepResult, of: Measurement) -> GithubEntry:
    name = f"{field(sweep.machine.name)}: {name_of(of)}"
    value = number(of.median, name, sweep.file)
    lines = [
        _versions(sweep.software),
        _hardware(sweep.machine),
        f"median of {len(of.rates)} rounds, 95% interval {_short(of.low)} to {_short(of.high)} images/s",
        f"{MEASURED}{sweep.when}",
    ]
    return _entry(name, IMAGES, value, (of.low, of.high), lines)


def _speed(comparison: ComparisonResult, cell: CellResult) -> GithubEntry:
    name = f"{field(comparison.machine.name)}: {name_of_cell(comparison, cell)}"
    ratio = number(cell.ratio.estimate, name, comparison.file)
    value = number(1 / ratio, name, comparison.file)
    low, high = (1 / end if end > 0 else math.inf for end in (cell.ratio.high, cell.ratio.low))
    arm, base = comparison.arms[cell.arm], comparison.arms[0]
    lines = [
        f"{cell.verdict.value}: {cell.reason}",
        f"{arm.label}: {_versions(arm.software)}",
        f"{base.label}: {_versions(base.software)}",
        _hardware(comparison.machine),
        f"{MEASURED}{comparison.when}",
    ]
    return _entry(name, SPEED, value, (low, high), lines)


def _entry(name: str, unit: str, value: float, ends: tuple[float, float], lines: list[str]) -> GithubEntry:
    return {
        "name": name,
        "unit": unit,
        "value": float(_short(value)),
        "range": _range(value, *ends),
        "extra": "\n".join(line(text, LINE_LENGTH) for text in lines if text),
    }


def _range(value: float, low: float, high: float) -> str:
    """Return "± " and the distance to the farther end of the interval; empty without an interval.

    The action accepts a single number after the sign.
    """
    distance = max(high - value, value - low)
    return f"± {_short(distance)}" if math.isfinite(distance) and distance >= 0 else ""


def _short(value: float) -> str:
    return f"{value:.{DIGITS}g}"


def _versions(software: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {software[name]}" for name in VERSIONS if software.get(name))


def _hardware(machine: Machine) -> str:
    return ", ".join([*([machine.cpu] if machine.cpu else []), *machine.gpus])
