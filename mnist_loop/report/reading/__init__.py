"""Stored results, from files that may hold anything, as the classes of `mnist_loop.report.model`.

What leaves here is checked: numbers are finite and positive, texts are short and harmless, types are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from mnist_loop.report.model import Comparison, Refused, Results, Sweep
from mnist_loop.report.reading.comparison import comparison
from mnist_loop.report.reading.decode import decode
from mnist_loop.report.reading.files import find, opened, shown, whole
from mnist_loop.report.reading.log import is_comparison
from mnist_loop.report.reading.node import Misfit
from mnist_loop.report.reading.sweep import sweep
from mnist_loop.support.limits import LONGEST_LINE


def read(paths: Sequence[Path]) -> Results:
    """Read stored results; a folder means all that are in it. What cannot be read is refused, and the others stay."""
    files, refused = find(paths)
    sweeps: dict[object, Sweep] = {}
    comparisons: dict[object, Comparison] = {}
    for file in files:
        found = read_one(file)
        if isinstance(found, Refused):
            refused.append(found)
            continue
        # A copy of a run is no second run: counted twice, it would pass for evidence.
        if isinstance(found, Sweep):
            software = tuple(sorted(found.software.items()))
            key = found.when, found.machine, software, found.measurements
            first: Sweep | Comparison = sweeps.setdefault(key, found)
        else:
            first = comparisons.setdefault((found.when, found.machine, found.cells), found)
        if first is not found:
            refused.append(Refused(found.file, f"a copy of {first.file}: it is the same run, and counts once"))
    return Results(tuple(sweeps.values()), tuple(comparisons.values()), tuple(refused))


def read_one(path: Path) -> Sweep | Comparison | Refused:
    """Read one file; whatever is wrong with it is told in what is returned."""
    try:
        with opened(path) as file:
            return _read(file, shown(path))
    except Misfit as error:
        return Refused(shown(path), str(error))


def _read(file: BinaryIO, name: Path) -> Sweep | Comparison:
    first_line = file.readline(LONGEST_LINE)
    file.seek(0)
    if is_comparison(first_line):
        return comparison(file, name)
    return sweep(decode(whole(file)), name)
