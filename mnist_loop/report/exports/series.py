"""What all exports share: names that are stable from run to run, and one value for each name.

A name contains workload and settings but no versions: after an upgrade the same line goes on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from mnist_loop.errors import UserError
from mnist_loop.report.stored import CellResult, ComparisonResult, Measurement, StoredResults, WorkloadId

T = TypeVar("T")

SETTINGS = {"device": "", "threads": "threads ", "dtype": "", "engine": ""}  # of an arm, and the text before the value
RESERVED = frozenset("%,:|`\\")  # our separators and escape, and what ends a cell or code in a Markdown table
FIELD_BYTES = 64  # of a part of a name: the longest name has thirteen parts, and Bencher allows 1024 bytes
KEPT_BYTES = 48  # of a longer part, before a digest that makes it unique
DIGEST_DIGITS = 12  # 48 bits: no collision among the series of one project


def name_of(measurement: Measurement) -> str:
    """Return the name of a sweep's series, without the machine."""
    setting = measurement.setting
    threads = [] if setting.threads is None else [f"threads {setting.threads}"]
    return _name(measurement.workload, [field(setting.device), *threads, field(setting.dtype)])


def name_of_cell(comparison: ComparisonResult, cell: CellResult) -> str:
    """Return the name of the series of one arm compared with the first, without the machine."""
    arm, base = comparison.arms[cell.arm], comparison.arms[0]
    setting = []
    for name, word in SETTINGS.items():
        values = [field(of.settings[name]) for of in (arm, base) if name in of.settings]
        if values:
            setting.append(word + " beside ".join(dict.fromkeys(values)))
    return f"{field(arm.label)} beside {field(base.label)}: {_name(cell.workload, setting)}"


def field(text: str) -> str:
    """Write a part of a name in at most `FIELD_BYTES` printable bytes; different texts stay different.

    Characters that do not print, or that have a meaning in names or in Markdown, are percent-encoded.
    """
    encoded = "".join(
        letter if letter.isprintable() and letter not in RESERVED else quote(letter, safe="", errors="surrogatepass")
        for letter in text
    )
    if len(encoded.encode()) <= FIELD_BYTES:
        return encoded
    start = encoded.encode()[:KEPT_BYTES].decode(errors="ignore")
    return f"{start}~{digest(text)}"


def line(text: str, length: int) -> str:
    """Return a text on one line, without characters that do not print, cut to ``length`` characters."""
    printed = "".join(letter if letter.isprintable() else " " for letter in text)
    return printed if len(printed) <= length else printed[: length - 1] + "…"


def digest(text: str) -> str:
    """Return a short hash of a text."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:DIGEST_DIGITS]


def unique(named: Iterable[tuple[str, Path, T]]) -> dict[str, T]:
    """Return the values by name, in order.

    Two values of one name are refused: they may have been measured with different versions.

    Args:
        named: for each value its name and the file that it comes from.

    Raises:
        UserError: a name has two values.
    """
    values: dict[str, T] = {}
    files: dict[str, Path] = {}
    for name, file, value in named:
        if name in values:
            both = f"{files[name]} and {file} both measure" if files[name] != file else f"{file} measures twice"
            raise UserError(
                f"{both} {name!r}, and an export has one value for each benchmark: export one of the two alone"
            )
        values[name], files[name] = value, file
    return values


def number(value: float, name: str, file: Path) -> float:
    """Return ``value`` if it can be exported.

    Raises:
        UserError: it is not finite and above zero.
    """
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{file}: {name!r} is {value}, and only a finite number above zero can be exported")
    return value


def nothing(results: StoredResults, kind: str, wanted: str) -> UserError:
    """Return the error for results that hold nothing for an export.

    Args:
        results: what was read.
        kind: the export.
        wanted: what it takes, as in "give it ...".
    """
    refused = f" ({len(results.refused)} could not be read)" if results.refused else ""
    return UserError(f"nothing to export: no file{refused} holds what the export {kind} takes; give it {wanted}")


def _name(workload: WorkloadId, setting: list[str]) -> str:
    # The batch size comes last: no name ends in a suffix with a meaning, such as Bencher's "-bencher-ignore".
    parts = [field(workload.part), *setting, field(workload.data), field(workload.model)]
    return ", ".join([*parts, f"batch {workload.batch_size}"])
