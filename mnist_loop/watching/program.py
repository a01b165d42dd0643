"""Run a script, a module or a notebook as its author would: with its own ``__main__``, arguments, path and exit code.

The training in it is watched. Nothing of it is changed.
"""

from __future__ import annotations

import importlib.util
import io
import sys
import tokenize
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from mnist_loop.errors import UserError
from mnist_loop.watching.transparent import without_ours

OURS = str(Path(__file__).parents[1])
RAISED = 1  # exit code of a program that ends by an exception, as Python has it


@dataclass(frozen=True)
class Program:
    """What is run.

    Attributes:
        name: as the verdict calls it.
        run: runs it in a namespace of ``__main__``.
        path: what comes first in `sys.path`.
        argv: its `sys.argv`.
        main: attributes of its ``__main__``.
        files: the files that are its source.
    """

    name: str
    run: Callable[[dict[str, object]], None]
    path: str
    argv: tuple[str, ...]
    main: dict[str, object]
    files: tuple[str, ...] = ()


class Stopped(BaseException):
    """Ends a training that was watched for long enough. It is no Exception: a script's handlers let it through."""


def script(file: str, arguments: list[str]) -> Program:
    """Return a script as a program.

    Raises:
        UserError: there is no such file, or it is not Python.
    """
    path = Path(file)
    if path.is_dir():
        inside = path / "__main__.py"
        if not inside.is_file():
            raise UserError(f"{file}: a folder without __main__.py found, expected a script: name the file")
        return _program(file, inside, arguments, str(path.absolute()))
    return _program(file, path, arguments, str(path.absolute().parent))


def _program(file: str, path: Path, arguments: list[str], first: str) -> Program:
    full = str(path.absolute())
    source = read_source(path, file)
    main: dict[str, object] = {"__file__": full, "__spec__": None, "__package__": None}

    def run(namespace: dict[str, object]) -> None:
        exec(compile(source, full, "exec", dont_inherit=True), namespace)  # noqa: S102  # it is what was asked for

    return Program(file, run, first, (file, *arguments), main, (full,))


def read_source(path: Path, name: str) -> bytes:
    """Read the source of a script.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if not path.is_file():
            found = "no such file" if not path.exists() else "not a file"
            raise UserError(f"{name}: {found}, expected a script: mnist-loop check train.py")
        content = path.read_bytes()
        tokenize.detect_encoding(io.BytesIO(content).readline)
    except (OSError, SyntaxError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{name}: cannot be read ({why}), expected a script: mnist-loop check train.py") from None
    return content


def module(name: str, arguments: list[str]) -> Program:
    """Return a module as a program, as ``python -m`` runs it.

    Raises:
        UserError: there is no such module.
    """
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ModuleNotFoundError as error:
        raise UserError(f"-m {name}: {error}, expected a module that can be imported from here") from None
    except ValueError:
        spec = None
    finally:
        sys.path.remove(here)
    code = None if spec is None else getattr(spec.loader, "get_code", lambda _: None)(spec.name)
    if spec is None or not isinstance(code, CodeType):
        raise UserError(f"-m {name}: no such module, expected one that can be imported from here")
    main: dict[str, object] = {
        "__file__": spec.origin,
        "__spec__": spec,
        "__package__": spec.parent,
        "__loader__": spec.loader,
        "__cached__": spec.cached,
    }

    def run(namespace: dict[str, object]) -> None:
        exec(code, namespace)  # noqa: S102  # it is what was asked for

    return Program(f"-m {name}", run, here, (spec.origin or name, *arguments), main, (spec.origin or "",))


def run(program: Program) -> int:
    """Run a program in this process, as its ``__main__``; return its exit code. A traceback of its own is printed.

    Raises:
        KeyboardInterrupt: by Ctrl-C, after the traceback that Python would print.
    """
    main = types.ModuleType("__main__")
    main.__dict__.update({"__builtins__": __builtins__, **program.main})
    sys.modules["__main__"] = main
    sys.argv = list(program.argv)
    sys.path[0] = program.path
    try:
        program.run(main.__dict__)
    except SystemExit as leaving:
        return _exit_code(leaving)
    except Stopped:
        return 0
    except BaseException as error:
        _show(error)
        if isinstance(error, KeyboardInterrupt):
            raise
        return RAISED
    return 0


def _exit_code(leaving: SystemExit) -> int:
    code = leaving.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    if sys.stderr is not None:
        print(code, file=sys.stderr)  # noqa: T201  # as Python does
    return RAISED


def _show(error: BaseException) -> None:
    """Print a traceback as Python would."""
    without_ours(error, OURS)
    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(type(error), error, error.__traceback__)
    elif sys.stderr is not None:
        traceback.print_exception(error)
