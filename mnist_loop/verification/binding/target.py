"""What a loop is, a function or the methods of a class or of an instance, and where it is written."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from mnist_loop.errors import UserError

TRAIN_METHODS = ("fit", "train", "run", "train_epoch", "train_one_epoch", "__call__")
EXPECTED = "expected a training loop: a function, a class, or an object with fit, that takes a model and data"
NO_LOOPS: dict[type, str] = {
    nn.Module: "a model or a loss (a torch.nn.Module)",
    Optimizer: "an optimizer (a torch.optim.Optimizer)",
    DataLoader: "a loader (a torch.utils.data.DataLoader)",
    Dataset: "a data set (a torch.utils.data.Dataset)",
    Tensor: "a tensor",
    ModuleType: "a module of Python",
}


@dataclass(frozen=True)
class Location:
    """The file that something is written in, its first and its last line."""

    file: str
    line: int
    end: int


@dataclass(frozen=True)
class Target:
    """What is to be bound.

    Attributes:
        function: the function; None for methods.
        maker: makes the instance of the methods: a class, or a ``functools.partial`` of one.
        instance: the instance of the methods, if it exists already.
        method: the only method that is meant; empty for the usual ones.
    """

    function: Callable[..., Any] | None = None
    maker: Callable[..., Any] | None = None
    instance: object = None
    method: str = ""

    @property
    def owner_class(self) -> type | None:
        """The class of the methods."""
        if self.function is not None:
            return None
        if self.maker is None:
            return type(self.instance)
        made = self.maker.func if isinstance(self.maker, partial) else self.maker
        return made if isinstance(made, type) else None


def target_of(loop: object) -> Target:
    """Return what ``loop`` is.

    Raises:
        UserError: it cannot be a loop.
    """
    _refuse(loop)
    if isinstance(loop, type) or (isinstance(loop, partial) and isinstance(loop.func, type)):
        return Target(maker=loop)
    if inspect.ismethod(loop):
        if isinstance(loop.__self__, type):
            return Target(function=loop)
        _refuse(loop.__self__)
        return Target(instance=loop.__self__, method=loop.__name__)
    if inspect.isfunction(loop):
        owner = _class_around(loop)
        if owner is None and next(iter(inspect.signature(loop).parameters), "") == "self":
            raise UserError(
                f"{loop.__qualname__} found, a method whose class cannot be found, {EXPECTED}: give the class"
            )
        return Target(function=loop) if owner is None else Target(maker=owner, method=loop.__name__)
    if isinstance(loop, partial) or inspect.isbuiltin(loop) or hasattr(loop, "__wrapped__"):
        return Target(function=loop)  # type: ignore[arg-type]  # each of them is callable
    if any(callable(getattr(loop, name, None)) for name in TRAIN_METHODS):
        return Target(instance=loop)
    raise UserError(f"{_brief(loop)} found, {EXPECTED}: give one of these")


def _refuse(loop: object) -> None:
    for kind, what in NO_LOOPS.items():
        if isinstance(loop, kind) or (isinstance(loop, type) and issubclass(loop, kind)):
            name = loop.__name__ if isinstance(loop, type | ModuleType) else type(loop).__name__
            hint = (
                f"name the loop in it, {name}:NAME" if kind is ModuleType else "give the function that trains with it"
            )
            raise UserError(f"{name} found, which is {what}, {EXPECTED}: {hint}")


def _brief(thing: object) -> str:
    text = repr(thing)
    return f"{text if len(text) <= 60 else text[:57] + '...'} of type {type(thing).__name__}"


def _class_around(function: Any) -> type | None:
    """Return the class that ``function`` is a method of; None for a function and a static method."""
    path, _, name = function.__qualname__.rpartition(".")
    found: object = sys.modules.get(function.__module__)
    for part in path.split("."):
        found = getattr(found, part, None)
    is_method = isinstance(found, type) and inspect.getattr_static(found, name, None) is function
    return found if is_method and isinstance(found, type) else None


def unwrapped(function: Any) -> Any:
    """Return the function as its author wrote it, without decorators, partials and bound methods."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, staticmethod | classmethod) or inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = inspect.unwrap(function)
        else:
            return function


def codes_of(function: Any) -> Iterator[CodeType]:
    """Yield the code of ``function`` and of the functions inside it; nothing if it is not written in Python."""
    found = getattr(unwrapped(function), "__code__", None)
    todo = [found] if found is not None else []
    while todo:
        code = todo.pop()
        yield code
        todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def location_of(function: Any) -> Location | None:
    """Return where ``function`` is written, decorators included; None if it is not written in Python."""
    codes = list(codes_of(function))
    if not codes:
        return None
    lines = [line for code in codes for *_, line in code.co_lines() if line is not None]
    return Location(codes[0].co_filename, codes[0].co_firstlineno, max(lines, default=codes[0].co_firstlineno))


def title_of(thing: Any, method: str = "") -> str:
    """Return the name for people: ``my_train.py:Trainer.fit``."""
    thing = unwrapped(thing) if not isinstance(thing, type) else thing
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    name = thing.__qualname__.replace("<locals>.", "") + (f".{method}" if method else "")
    module = sys.modules.get(thing.__module__)
    where = location_of(thing)
    file = where.file.partition(", cell ")[0] if where is not None else getattr(module, "__file__", None)
    in_file = file is not None and file.endswith((".py", ".ipynb")) and Path(file).is_file()
    return f"{Path(file).name}:{name}" if file is not None and in_file else name


def methods_of(target: Target, names: tuple[str, ...]) -> Iterator[tuple[str, Callable[..., Any], bool]]:
    """Yield each of these methods that exists: name, function, whether its first parameter is the instance."""
    for name in names:
        if target.maker is None:
            found = getattr(target.instance, name, None)
            if callable(found):
                yield name, found, False
            continue
        owner = target.owner_class
        assert owner is not None
        static = next((vars(base)[name] for base in owner.__mro__ if name in vars(base)), None)
        if isinstance(static, staticmethod | classmethod):
            yield name, getattr(owner, name), False
        elif isinstance(static, functools.partialmethod):
            yield name, static.func, True
        elif callable(static):
            yield name, static, True


def async_error(title: str) -> UserError:
    """Return the error for a loop that would have to be awaited."""
    return UserError(
        f"{title} found, which is async, expected a function that trains when it is called: wrap it in asyncio.run"
    )


def check_sync(function: Any, title: str) -> None:
    """Refuse an async function.

    Raises:
        UserError: it is one.
    """
    written = unwrapped(function)
    if not inspect.isroutine(written) and not isinstance(written, type):
        written = type(written).__call__
    if inspect.iscoroutinefunction(written) or inspect.isasyncgenfunction(written):
        raise async_error(title)
