"""A notebook as a program: its code cells in order. IPython runs those that only it understands, such as magics."""

from __future__ import annotations

import ast
import json
import linecache
from collections.abc import Callable
from pathlib import Path

from mnist_loop.errors import UserError
from mnist_loop.watching.program import Program

EXPECTED = "expected a notebook: open it in Jupyter and save it"


def notebook(file: str, arguments: list[str]) -> Program:
    """Return a notebook as a program.

    Raises:
        UserError: there is no such file, it is no notebook, or it has magics and IPython is not installed.
    """
    path = Path(file)
    full = str(path.absolute())
    cells = _cells(path, file)
    names = [f"{full}, cell {number}" for number in range(1, len(cells) + 1)]
    plain = all(_is_python(cell) for cell in cells)
    run_cell = None if plain else _ipython(file)

    def run(namespace: dict[str, object]) -> None:
        for name, cell in zip(names, cells, strict=True):
            _remember(name, cell)
            if run_cell is None or _is_python(cell):
                exec(compile(cell, name, "exec", dont_inherit=True), namespace)  # noqa: S102  # it is what was asked for
            else:
                run_cell(cell, namespace)

    main: dict[str, object] = {"__file__": full, "__spec__": None}
    return Program(file, run, str(path.absolute().parent), (file, *arguments), main, tuple(names))


def _cells(path: Path, name: str) -> list[str]:
    """Read the code cells of a notebook."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror}), {EXPECTED}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{name}: what it holds is not JSON, {EXPECTED}") from None
    cells = found.get("cells") if isinstance(found, dict) else None
    if not isinstance(cells, list):
        raise UserError(f"{name}: it has no cells of the format 4, {EXPECTED}")
    sources = [cell.get("source", "") for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    texts = ["".join(source) if isinstance(source, list) else source for source in sources]
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"{name}: a cell without text found, {EXPECTED}")
    return texts


def _is_python(cell: str) -> bool:
    try:
        ast.parse(cell)
    except SyntaxError:
        return False
    return True


def _ipython(name: str) -> Callable[[str, dict[str, object]], None]:
    """Return what runs a cell in IPython."""
    try:
        from IPython.core.interactiveshell import InteractiveShell
    except ImportError:
        raise UserError(f"{name}: it has magics, expected IPython to run them: pip install ipython") from None

    def run_cell(cell: str, namespace: dict[str, object]) -> None:
        shell = InteractiveShell.instance()
        shell.user_ns = namespace
        result = shell.run_cell(cell)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:  # its traceback was printed
            raise SystemExit(1)

    return run_cell


def _remember(name: str, cell: str) -> None:
    """Have tracebacks and findings show the lines of a cell."""
    linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
