"""The code cells of a notebook, and the definitions in them."""

from __future__ import annotations

import ast
import json
import linecache
from pathlib import Path
from types import ModuleType

from mnist_loop.errors import UserError
from mnist_loop.verification.binding import definitions


def cells_of(file: Path, place: str) -> list[str]:
    """Return the code cells of a notebook, which the user calls ``place``.

    Raises:
        UserError: it is no notebook of the format 4.
    """
    try:
        found = json.loads(file.read_bytes())
        cells = ["".join(cell["source"]) for cell in found["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{place} found, which is no notebook, expected one: open it in Jupyter and save it") from None
    return cells


def load(cell: str, name: str, module: ModuleType) -> list[str]:
    """Execute the definitions of a cell in ``module``, without its lines for IPython alone; return those left out."""
    lines = [f"{line[: len(line) - len(line.lstrip())]}pass" if _is_magic(line) else line for line in cell.splitlines()]
    source = "\n".join(lines) + "\n"
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a cell of another language
        return []
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    return definitions.load(tree, name, module)


def _is_magic(line: str) -> bool:
    return line.lstrip().startswith(("%", "!"))
