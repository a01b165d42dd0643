"""Reads stored results into the classes of `mnist_loop.report.stored`, from files that may contain anything.

All values are checked: numbers are finite and within bounds, texts short and printable, types right.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from mnist_loop.report.reading.comparison_file import read_comparison
from mnist_loop.report.reading.decode import decode
from mnist_loop.report.reading.files import find, opened, read_whole, shown
from mnist_loop.report.reading.log import is_comparison
from mnist_loop.report.reading.node import InvalidResult
from mnist_loop.report.reading.sweep_file import read_sweep
from mnist_loop.report.stored import ComparisonResult, Refused, StoredResults, SweepResult
from mnist_loop.support.limits import LONGEST_LINE


def read_results(paths: Sequence[Path]) -> StoredResults:
    """Read stored results, and all in the folders named. A file that cannot be read is refused; the others are read."""
    files, refused = find(paths)
    sweeps: dict[object, SweepResult] = {}
    comparisons: dict[object, ComparisonResult] = {}
    for file in files:
        found = read_result(file)
        if isinstance(found, Refused):
            refused.append(found)
            continue
        # A copy of a run is not a second run: counted twice, it would look like independent evidence.
        if isinstance(found, SweepResult):
            software = tuple(sorted(found.software.items()))
            key = found.when, found.machine, software, found.measurements
            first: SweepResult | ComparisonResult = sweeps.setdefault(key, found)
        else:
            first = comparisons.setdefault((found.when, found.machine, found.cells), found)
        if first is not found:
            refused.append(Refused(found.file, f"a copy of {first.file}: it is the same run, and counts once"))
    return StoredResults(tuple(sweeps.values()), tuple(comparisons.values()), tuple(refused))


def read_result(path: Path) -> SweepResult | ComparisonResult | Refused:
    """Read one file; where it is invalid, return the reason."""
    try:
        with opened(path) as file:
            return _read(file, shown(path))
    except InvalidResult as error:
        return Refused(shown(path), str(error))


def _read(file: BinaryIO, name: Path) -> SweepResult | ComparisonResult:
    first_line = file.readline(LONGEST_LINE)
    file.seek(0)
    if is_comparison(first_line):
        return read_comparison(file, name)
    return read_sweep(decode(read_whole(file)), name)
