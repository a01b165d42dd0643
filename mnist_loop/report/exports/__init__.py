"""Results in the formats of other tools, which follow benchmarks over time: one module a tool; no file is written.

`export` makes one file. asv keeps a folder of several, which `export_folder` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.report.exports import asv, bencher, github
from mnist_loop.report.model import Results

KINDS: Mapping[str, Callable[[Results], str]] = {
    "asv": asv.export,
    "bencher": bencher.export,
    "github": github.export,
}
FOLDERS: Mapping[str, Callable[[Results], dict[str, str]]] = {"asv": asv.files}


def export(results: Results, kind: str) -> str:
    """Return the text of the one file that ``kind`` (a key of `KINDS`) reads; it ends with a line feed.

    Raises:
        UserError: there is no such kind, there is nothing to export, the file would hold two values for one
            benchmark, or it takes several files.
    """
    return _known(kind)(results)


def export_folder(results: Results, kind: str) -> dict[str, str]:
    """Return what belongs into the folder that ``kind`` reads: path within it, with slashes, to the file's text.

    Raises:
        UserError: as `export`; or ``kind`` reads one file and no folder.
    """
    _known(kind)
    if kind not in FOLDERS:
        raise UserError(f"the export {kind} is one file, not a folder: name a file for it")
    return FOLDERS[kind](results)


def is_export(document: Any) -> bool:
    """Tell whether a decoded document is one that an export made."""
    return any(module.made(document) for module in (asv, bencher, github))


def _known(kind: str) -> Callable[[Results], str]:
    if kind not in KINDS:
        raise UserError(f"there is no export {kind!r}: expected one of {', '.join(sorted(KINDS))}")
    return KINDS[kind]
