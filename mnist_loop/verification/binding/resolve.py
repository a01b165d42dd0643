"""Imports what a text names: ``path/to/file.py:name`` or ``package.module:name``."""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import importlib.util
import os
import shlex
import sys
import tokenize
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from mnist_loop.errors import UserError, WriteRefused
from mnist_loop.verification.binding import absent, definitions, notebook
from mnist_loop.verification.binding.foreign import foreign_code
from mnist_loop.verification.sandbox.scratch import original, refusal

_MODULE = frozenset(vars(ModuleType("_"))) | {"__file__", "__cached__", "__builtins__"}
FORMS = "file.py:name or package.module:name"

_folders: dict[str, tuple[str, ...]] = {}  # for each module imported here: its folders on the search path
_notes: dict[str, tuple[str, ...]] = {}  # for each module imported here: what is to be said of it
MOST_ABOVE = 4  # folders above a file that are searched for what it imports


class FailsAtImport(UserError):
    """A module that raises, or ends the program, when it is imported."""


def import_named(spec: str) -> tuple[ModuleType, str, str]:
    """Import the module that ``spec`` names; return it, its file or module name, and the name in it, "" if none.

    Raises:
        UserError: there is no such file or module, or it fails at import.
    """
    place, name = _split(spec)
    if not place:
        raise UserError(f"{spec!r} found, expected {FORMS}: say where the loop is")
    is_file = place.endswith((".py", ".ipynb")) or os.sep in place or Path(place).exists()
    return import_file(Path(place)) if is_file else import_by_name(place), place, name


@contextlib.contextmanager
def search_path(*folders: str) -> Iterator[None]:
    """Put ``folders`` first on the search path of modules, as for a script; those on it already keep their place."""
    added = [folder for folder in folders if folder not in sys.path]
    sys.path[:0] = added
    try:
        yield
    finally:
        for folder in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)


def folders_of(module: str) -> tuple[str, ...]:
    """Return the folders that were on the search path for a module that was imported here; none for another."""
    return _folders.get(module, ())


def notes_on(module: str) -> tuple[str, ...]:
    """Return what is to be said of how a module was imported here, a sentence each."""
    return _notes.get(module, ())


def import_file(path: Path) -> ModuleType:
    """Import a file; in a package (folders with ``__init__.py``) by its full name, so that its relative imports work.

    A file outside a package is executed each time, as it may have changed.

    Raises:
        UserError: there is no such file, or it fails at import.
    """
    file = original(path.expanduser().absolute())
    if not file.is_file() or file.suffix not in (".py", ".ipynb"):
        raise UserError(_no_such_file(path))
    if file.suffix == ".ipynb":
        return _import_notebook(file, str(path))
    package = [file.stem] if file.stem != "__init__" else []
    root = file.parent
    while (root / "__init__.py").is_file() and root.name.isidentifier() and file.stem.isidentifier():
        package.insert(0, root.name)
        root = root.parent
    folders = tuple(dict.fromkeys((str(root), _here())))
    if root != file.parent:
        name = ".".join(package)
        module = _import_in_package(name, file, str(path), folders)
        if module.__file__ is None or not Path(module.__file__).samefile(file):
            raise UserError(
                f"{path} found, but {name} is imported from {module.__file__}: "
                "run this in the folder of the package, or uninstall the other one"
            )
        return module
    name = _free_name(file)
    module = _empty(name, file)
    _forget_siblings(file.parent)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        _execute(module, file, str(path), folders)
    except BaseException:
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def _import_notebook(file: Path, place: str) -> ModuleType:
    """Execute the definitions in the cells of a notebook."""
    cells = notebook.cells_of(file, place)
    folders = tuple(dict.fromkeys((str(file.parent), _here())))
    name = _free_name(file)
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(file)
    _forget_siblings(file.parent)

    failed: list[str] = []

    def load(folders: tuple[str, ...]) -> None:
        failed.clear()
        with _importing(place, folders):
            for number, cell in enumerate(cells, start=1):
                failed.extend(notebook.load(cell, f"{file}, cell {number}", module))

    missing = _with_what_is_missing(name, file, folders, load)
    told = (
        f"of {place} the definitions and constants alone were executed: to run and watch its cells, "
        f"{check_command(place)}"
    )
    _notes[name] = (told, *_left_out(failed), *absent.told(missing))
    return module


def _import_in_package(name: str, file: Path, place: str, folders: tuple[str, ...]) -> ModuleType:
    module = sys.modules.get(name)

    def whole(folders: tuple[str, ...]) -> None:
        nonlocal module
        module = _import_by_name(name, place, folders)

    def made_anew() -> ModuleType:
        nonlocal module
        module = sys.modules[name] = _empty(name, file)
        return module

    _whole_or_definitions(name, whole, made_anew, file, place, folders)
    assert module is not None
    return module


def _execute(module: ModuleType, file: Path, place: str, folders: tuple[str, ...]) -> None:
    """Execute a file in its module: as it is, or its definitions alone, where it trains by that or fails."""
    spec = module.__spec__
    assert spec is not None
    assert spec.loader is not None
    execute = spec.loader.exec_module

    def whole(folders: tuple[str, ...]) -> None:
        with _importing(place, folders):
            execute(module)

    def emptied() -> ModuleType:
        for name in vars(module).keys() - _MODULE:
            delattr(module, name)
        return module

    _whole_or_definitions(module.__name__, whole, emptied, file, place, folders)


def _whole_or_definitions(
    name: str,
    whole: Callable[[tuple[str, ...]], None],
    emptied: Callable[[], ModuleType],
    file: Path,
    place: str,
    folders: tuple[str, ...],
) -> None:
    """Import a file with ``whole``, or its definitions alone into an ``emptied`` module."""
    _notes.pop(name, None)
    tree = _tree(file)
    why = "trains"
    if tree is None or not definitions.trains(tree):
        try:
            missing = _with_what_is_missing(name, file, folders, whole)
        except (FailsAtImport, WriteRefused) as error:
            cause = error.__cause__ or error
            not_there = isinstance(cause, ImportError) and not isinstance(cause, absent.NotInstalledError)
            if tree is None or not_there or not definitions.has_loops(tree):
                raise
            why = f"fails with {type(cause).__name__}"
        else:
            _notes[name] = tuple(absent.told(missing))
            if tree is not None and name in sys.modules:
                with _importing(place, _folders[name]):
                    definitions.load_constants_of_main(tree, str(file), sys.modules[name])
            return
    assert tree is not None
    failed: list[str] = []

    def load(folders: tuple[str, ...]) -> None:
        module = emptied()
        with _importing(place, folders):
            failed[:] = definitions.load(tree, str(file), module)
            definitions.load_constants_of_main(tree, str(file), module)

    missing = _with_what_is_missing(name, file, folders, load)
    told = (
        f"of {place} the definitions and constants alone were executed, as the whole file {why} when it is imported: "
        f"to watch what it does as it runs, {check_command(place)}"
    )
    _notes[name] = (told, *_left_out(failed), *absent.told(missing))


def _left_out(failed: list[str]) -> list[str]:
    return [f"left out, as what they are made of is not there: {', '.join(failed)}"] if failed else []


def _with_what_is_missing(
    name: str, file: Path, folders: tuple[str, ...], attempt: Callable[[tuple[str, ...]], None]
) -> set[str]:
    """Import a file, again with what it lacks: a folder above it that holds a module, or stand-ins for packages.

    Returns:
        The packages that something stands for.
    """
    missing: set[str] = set()
    while True:
        try:
            with absent.stand_ins(missing) as found:
                attempt(folders)
        except FailsAtImport as error:
            lacks = _lacks(error, folders)
            if lacks is None or lacks in missing:
                raise
            above = _folder_above(file, lacks)
            if above is None or above in folders:
                missing.add(lacks)
            else:
                folders = (*folders, above)
        else:
            _folders[name] = folders
            return found


def _lacks(error: FailsAtImport, folders: tuple[str, ...]) -> str | None:
    """Return the package that an import failed for, as it is nowhere; None where it failed for something else."""
    cause = error.__cause__
    if not isinstance(cause, ModuleNotFoundError) or isinstance(cause, absent.NotInstalledError) or not cause.name:
        return None
    name = cause.name.partition(".")[0]
    with search_path(*folders):
        return None if name in sys.modules or importlib.util.find_spec(name) is not None else name


def _folder_above(file: Path, name: str) -> str | None:
    """Return the nearest folder above a file, in its repository, that holds a module."""
    for folder in [*file.parents][1 : MOST_ABOVE + 1]:
        if (folder / f"{name}.py").is_file() or any((folder / name).glob("*.py")):
            return str(folder)
        if (folder / ".git").exists():
            return None
    return None


def _empty(name: str, file: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None
    return importlib.util.module_from_spec(found)


def _tree(file: Path) -> ast.Module | None:
    try:
        with tokenize.open(file) as stream:
            return ast.parse(stream.read())
    except (OSError, SyntaxError, ValueError):
        return None


def import_by_name(name: str) -> ModuleType:
    """Import a module by its name, with the working folder on the search path.

    Raises:
        UserError: there is no such module, or it fails at import.
    """
    module = ModuleType(name)

    def whole(folders: tuple[str, ...]) -> None:
        nonlocal module
        module = _import_by_name(name, name, folders)

    _notes.pop(name, None)
    missing = _with_what_is_missing(name, Path(_here(), name), (_here(),), whole)
    _notes[name] = tuple(absent.told(missing))
    return module


def _here() -> str:
    return str(original(Path.cwd()))


def attribute_of(module: ModuleType, place: str, name: str) -> Any:
    """Return what a dotted name stands for in a module that was imported from ``place``.

    Raises:
        UserError: there is no such name, or it can neither be called nor has a method that trains.
    """
    found: Any = module
    passed = place
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            public = public_names(found) if isinstance(found, ModuleType) else [n for n in dir(found) if n[0] != "_"]
            near = _nearest(part, public)
            hint = f"did you mean {near}?" if near else f"it has {', '.join(public) or 'none'}"
            note = "".join(f" ({note})" for note in notes_on(module.__name__))
            raise UserError(f"{passed} has no {part!r}, expected the name of a loop: {hint}{note}") from None
        passed = f"{passed}:{part}" if passed == place else f"{passed}.{part}"
    if not callable(found) and not any(callable(getattr(found, method, None)) for method in ("fit", "train", "run")):
        raise UserError(f"{passed} is {found!r:.60}, which cannot be called, expected a loop: name a function or class")
    return found


def public_names(owner: Any) -> list[str]:
    """Return the names of what can be called in a module, defined there, or in another object."""
    module = owner.__name__ if isinstance(owner, ModuleType) else None
    return [
        name
        for name, thing in vars(owner).items()
        if not name.startswith("_")
        and callable(thing)
        and (module is None or getattr(thing, "__module__", None) == module)
    ]


def _split(spec: str) -> tuple[str, str]:
    place, colon, name = spec.strip().rpartition(":")
    if not colon or "/" in name or os.sep in name:  # not a name; the colon may be that of a Windows drive
        return spec.strip(), ""
    return place.rstrip(":"), name  # as in pytest's node ids


def _import_by_name(name: str, place: str, folders: tuple[str, ...]) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"{place!r} found, which is no name of a module, expected {FORMS}")
    importlib.invalidate_caches()
    with _importing(place, folders, name):
        return importlib.import_module(name)


@contextlib.contextmanager
def _importing(place: str, folders: tuple[str, ...], name: str | None = None) -> Iterator[None]:
    """Import user code within: its output goes to stderr, it sees no arguments of ours, and it fails in a sentence.

    Raises:
        UserError: the module fails at import, or calls exit().
    """
    arguments, bytecode = sys.argv, sys.dont_write_bytecode
    sys.argv, sys.dont_write_bytecode = [place], True
    try:
        with search_path(*folders), contextlib.redirect_stdout(sys.stderr), foreign_code:
            yield
    except SystemExit as error:
        if (refused := refusal(error)) is not None:
            raise refused from None
        raise FailsAtImport(
            f"{place} calls exit() at import{_lines(error, folders)}: put what is to run as a script under "
            "if __name__ == '__main__'"
        ) from error
    except Exception as error:  # a user's module may raise anything
        if (refused := refusal(error)) is not None:
            raise refused from None
        if name is not None and isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise UserError(_no_such_module(name)) from None
        told = " ".join(str(error).split())
        raise FailsAtImport(
            f"{place} fails at import with {type(error).__name__}{f': {told}' if told else ''}"
            f"{_lines(error, folders)}: see that it can be imported"
        ) from error
    finally:
        sys.argv, sys.dont_write_bytecode = arguments, bytecode


def _lines(error: BaseException, folders: tuple[str, ...]) -> str:
    """Return the place in the user's own files: `` (my_train.py, line 3: import nothing)``."""
    own = [
        f"{Path(frame.filename).name}, line {frame.lineno}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
        and any(frame.filename.startswith(folder + os.sep) for folder in folders)
        and frame.filename != __file__
    ]
    return f" ({'; '.join(own)})" if own else ""


def _free_name(file: Path) -> str:
    """Return the module name of a file outside packages: its stem, unless that is taken, as of ``random.py``."""
    name = file.stem
    taken = sys.modules.get(name)
    is_other = taken is not None and getattr(taken, "__file__", None) != str(file) and name not in _folders
    return f"my_{name}" if is_other or name in sys.stdlib_module_names or not name.isidentifier() else name


def _forget_siblings(folder: Path) -> None:
    """Forget the modules beside files of other folders, or ``import utils`` would find theirs."""
    root = str(folder)
    others = {folders[0] for folders in _folders.values()} - {root, _here()}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and name not in _folders and str(Path(file).parent) in others and "." not in name:
            del sys.modules[name]


def _nearest(name: str, known: list[str]) -> str | None:
    lower = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return lower[near[0]] if near else None


def check_command(spec: str) -> str:
    """Return the command that watches the program that ``spec`` names, as it is."""
    place, _ = _split(spec)
    is_file = place.endswith((".py", ".ipynb")) or os.sep in place or Path(place).exists()
    return f"mnist-loop check {shlex.quote(place)}" if is_file else f"mnist-loop check -m {shlex.quote(place)}"


def _no_such_file(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder, expected a file: say which, as {path / 'train.py'}:NAME"
    folder = path.expanduser().parent
    names = [file.stem for file in folder.glob("*.py")] if folder.is_dir() else []
    if path.suffix != ".py" and path.exists():
        return f"{path} found, expected a file of Python, .py: give the one that holds the loop"
    near = _nearest(path.stem, names)
    hint = f"did you mean {path.with_name(near + '.py')}?" if near else "give its path from here"
    return f"no such file as {path}, expected {FORMS}: {hint}"


def _no_such_module(name: str) -> str:
    stem, _, attribute = name.rpartition(".")
    beside = [file.stem for file in Path.cwd().glob("*.py")]
    near = _nearest(name, beside)
    if stem.split(".")[0] in (*beside, *sys.modules):
        hint = f"for what a module holds write {stem}:{attribute}"
    else:
        hint = f"did you mean {near}?" if near else "run this where it can be imported"
    return f"no such module as {name}, expected {FORMS}: {hint}"
