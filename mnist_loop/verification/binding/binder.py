"""Finds the parts of a loop, and binds them: what trains, what evaluates, what writes and reads checkpoints."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from mnist_loop.errors import UserError
from mnist_loop.verification.binding import adapter, resolve
from mnist_loop.verification.binding.binding import Binding, Misfit, Unbound, bind_signature
from mnist_loop.verification.binding.intentions import Intentions
from mnist_loop.verification.binding.parts import Owner, Part
from mnist_loop.verification.binding.roles import DATA, ROLES, SETS, Use, meanings
from mnist_loop.verification.binding.target import (
    TRAIN_METHODS,
    Target,
    codes_of,
    methods_of,
    plain,
    target_of,
    title_of,
)

FoundBy = Literal["declared", "beside"]

EVALUATE_METHODS = (
    *("evaluate", "validate", "test", "evaluate_epoch", "validate_epoch", "eval_epoch", "val_epoch", "valid_epoch"),
    *("test_epoch", "evaluate_one_epoch", "validate_one_epoch", "val_one_epoch", "test_one_epoch", "validation"),
    *("evaluation", "run_evaluation", "run_validation"),
)
EVALUATE_FUNCTIONS = (
    *EVALUATE_METHODS,
    *("eval_fn", "valid_fn", "val_fn", "test_fn", "evaluate_fn", "validate_fn", "eval_one_epoch", "valid_one_epoch"),
    *("evaluate_model", "eval_model", "validate_model", "test_model", "eval_net", "evaluate_net", "test_net"),
    *("eval_loop", "val_loop", "test_loop", "evaluate_loop", "validation_loop", "eval_step", "val_step", "test_step"),
)
# A function that evaluates often has the name of the one that trains, but for a word: train_loop and test_loop.
COUNTERPARTS = ("evaluate", "eval", "validate", "validation", "valid", "val", "test")

NO_GLOBALS: Mapping[str, str] = MappingProxyType({})


class Binder:
    """Binds the parts of one loop.

    Attributes:
        title: the name of the loop for people.
        module: the name of the module that it is written in.
    """

    def __init__(self, target: Target, meant: Intentions) -> None:
        self._target = target
        self._meant = meant
        self._subject: Any = target.function or target.owner_class
        self._training: Part | None = None
        self.title = title_of(self._subject, target.method)
        self.module = str(getattr(plain(self._subject), "__module__", ""))

    def training(self) -> Part:
        """Bind what trains.

        Raises:
            UserError: it cannot be bound, or it takes no model or no data.
        """
        if self._target.function is not None:
            part = self._part(self._target.function, "train")
        else:
            part = self._method_that_trains()
        self.title = title_of(self._subject, part.method)
        self._training = part
        self._check_enough(part, "train")
        return part

    def evaluation(self) -> tuple[Part | None, FoundBy | None]:
        """Bind what evaluates: what is declared, or else what stands beside; None where nothing does, or "none" should.

        Raises:
            UserError: it is declared, and cannot be bound.
        """
        if self._meant.evaluate == "none":
            return None, None
        if self._meant.evaluate is not None:
            part = self._declared(self._meant.evaluate, "evaluate")
            self._check_enough(part, "evaluate")
            return part, "declared"
        beside = self._beside()
        return beside, None if beside is None else "beside"

    def checkpointing(self, declared: object) -> Part | None:
        """Bind what is declared to write or read a checkpoint.

        Raises:
            UserError: it cannot be bound, or takes no path.
        """
        if declared is None:
            return None
        part = self._declared(declared, "checkpoint")
        if "path" not in part.roles:
            raise self._error(part.function, Misfit("it takes no path", part.binding, ()), "checkpoint", part.method)
        return part

    def look_up(self, text: str) -> Any:
        """Find what a declaration names: a neighbour of the loop in its module, or what can be imported."""
        found = self._neighbours().get(text)
        return found if callable(found) else resolve.resolve(text)

    def is_whole(self) -> bool:
        """Say whether one call trains all epochs: it takes or reads how many, but not which one."""
        part = self._training
        assert part is not None
        written = plain(part.function)
        name = str(part.method or getattr(written, "__name__", ""))
        one = name.lower().endswith("epoch") and not name.lower().endswith(("each_epoch", "every_epoch", "per_epoch"))
        if one or "epoch" in part.binding.needs:
            return False
        if "epochs" in part.roles:
            return True
        builds_loaders = bool(part.roles & SETS) and not part.roles & (DATA - SETS)
        if name in ("fit", "run") and part.owner is not None:
            return True
        read = {word for code in codes_of(written) for word in (*code.co_names, *code.co_varnames)}
        return builds_loaders or any("epochs" in meanings(word, "train") for word in read)

    def _part(self, function: Callable[..., Any], use: Use) -> Part:
        _check_sync(function, title_of(function))
        try:
            return Part(function, bind_signature(function, use))
        except Unbound as error:
            raise self._error(function, error.misfit, use) from None

    def _method_that_trains(self) -> Part:
        refused: list[tuple[str, Callable[..., Any], Misfit]] = []
        names = (self._target.method,) if self._target.method else TRAIN_METHODS
        for name, function, needs_self in methods_of(self._target, names):
            _check_sync(function, title_of(self._subject, name))
            try:
                binding = bind_signature(function, "train", skip_first=needs_self)
            except Unbound as error:
                refused.append((name, function, error.misfit))
            else:
                return Part(function, binding, self._owner(), name)
        if not refused:
            expected = ", ".join(TRAIN_METHODS[:-1])
            raise UserError(f"{self.title} found, which has no method that trains, expected one of {expected}: name it")
        name, function, misfit = refused[0]
        raise self._error(function, misfit, "train", name)

    def _owner(self) -> Owner:
        if self._target.maker is None:
            return Owner(self._target, None)
        try:
            return Owner(self._target, bind_signature(self._target.maker, "train"))
        except Unbound as error:
            raise self._error(self._target.maker, error.misfit, "train") from None

    def _method(self, name: str, use: Use) -> Part | None:
        """Bind one more method of the class that the loop belongs to; None where it has none of this name.

        Raises:
            Unbound: its signature cannot be bound.
            UserError: it is async.
        """
        assert self._training is not None
        for _, function, needs_self in methods_of(self._target, (name,)):
            _check_sync(function, title_of(self._subject, name))
            return Part(function, bind_signature(function, use, skip_first=needs_self), self._training.owner, name)
        return None

    def _beside(self) -> Part | None:
        """Return what stands beside the loop under a usual name, can be bound, and has what it takes to evaluate."""
        assert self._training is not None
        if self._training.owner is not None:
            for name in EVALUATE_METHODS:
                part = None if name == self._training.method else _quietly(self._method, name, "evaluate")
                if part is not None:
                    return part
        scope = plain(self._subject)
        if "." in getattr(scope, "__qualname__", "."):
            return None  # what is made inside a function or a class has no neighbours that could be seen
        neighbours = self._neighbours()
        for name in _names_beside(str(getattr(scope, "__name__", ""))):
            written = plain(neighbours.get(name))
            own = inspect.isfunction(written) and written.__module__ == self.module and written is not scope
            if own and not _is_for_pytest(name, written, neighbours):
                part = _quietly(self._part, neighbours[name], "evaluate")
                if part is not None and not self._lacks(part, "evaluate"):
                    return part
        return None

    def _neighbours(self) -> dict[str, Any]:
        """Return what the module holds that the loop is written in."""
        module = sys.modules.get(self.module)
        return {**(vars(module) if module else {}), **getattr(plain(self._subject), "__globals__", {})}

    def _declared(self, declared: Any, use: Use) -> Part:
        """Bind what is declared: a text, a method of the same class, or any function."""
        owned = self._target.owner_class
        if isinstance(declared, str) and callable(getattr(owned, declared, None)):
            target = dataclasses.replace(self._target, method=declared)
        else:
            declared = self.look_up(declared) if isinstance(declared, str) else declared
            target = target_of(declared)
        if target.function is not None:
            return self._part(target.function, use)
        if target.method is not None and self._is_same(target):
            try:
                part = self._method(target.method, use)
            except Unbound as error:
                raise self._error(declared, error.misfit, use, target.method) from None
            assert part is not None
            return part
        if target.maker is None:
            return self._part(declared, use)
        raise UserError(
            f"{title_of(target.owner_class)} found, which is a class of its own, expected a function or a method of "
            f"{self.title}: write a function that calls it"
        )

    def _is_same(self, target: Target) -> bool:
        """Say whether the methods of ``target`` are those of the loop too."""
        if self._target.owner_class is None or target.owner_class is None:
            return False
        if target.maker is None:
            return target.instance is self._target.instance
        return issubclass(self._target.owner_class, target.owner_class)

    def _lacks(self, part: Part, use: Use) -> list[str]:
        """Return which of model and data ``part`` cannot be handed. A method that evaluates has had them before."""
        if use == "evaluate" and part.owner is not None:
            return []
        lacking = [] if "model" in part.roles or self._meant.model is not None else ["model"]
        return lacking if part.roles & DATA else [*lacking, "data"]

    def _check_enough(self, part: Part, use: Use) -> None:
        lacking = self._lacks(part, use)
        if not lacking:
            return
        read = adapter.globals_read(part.function, use)
        why = f"it takes no {' and no '.join(lacking)}"
        if read:
            why += f" but reads the global {' and '.join(read)}"
        if "model" in lacking and "model" not in read.values():
            why += " (where it makes its own model, declare model=)"
        found = {*read.values(), *(("data",) if set(read.values()) - {"model"} else ())}
        data = "train_loader" if use == "train" else "test_loader"
        missing = [data if role == "data" else role for role in lacking if role not in found]
        raise self._error(part.function, Misfit(why, part.binding, ()), use, part.method, missing, read)

    def _error(
        self,
        function: Any,
        misfit: Misfit,
        use: Use,
        method: str = "",
        missing: Iterable[str] = (),
        read: Mapping[str, str] = NO_GLOBALS,
    ) -> UserError:
        """Return the error for ``function``: what was found, what is known, and an adapter."""
        title, called, bindings = title_of(function), function, [misfit.binding]
        owned = self._target.owner_class
        if method and owned is not None:
            title, called = title_of(owned, method), owned
            bindings.insert(0, _as_far_as_known(self._target.maker or owned))
        known = ", ".join(role.name for role in ROLES)
        return UserError(
            f"{title}{adapter.parameters_of(misfit.binding.signature)} found: {misfit.why}, expected parameters named "
            f"for what they take ({known}, in any usual spelling): rename them, give them defaults, or write an adapter"
            f"\n\n{adapter.write(called, bindings, missing, read, use, method)}\n"
        )


def async_error(title: str) -> UserError:
    """Return the error for a loop that would have to be awaited."""
    return UserError(
        f"{title} found, which is async, expected a function that trains when it is called: wrap it in asyncio.run"
    )


def _check_sync(function: Any, title: str) -> None:
    written = plain(function)
    if not inspect.isroutine(written) and not isinstance(written, type):
        written = type(written).__call__
    if inspect.iscoroutinefunction(written) or inspect.isasyncgenfunction(written):
        raise async_error(title)


def _quietly(find: Callable[[Any, Use], Part | None], what: object, use: Use) -> Part | None:
    """Return what is found, if it can be bound."""
    try:
        return find(what, use)
    except (Unbound, UserError):
        return None


def _as_far_as_known(maker: Callable[..., Any]) -> Binding:
    try:
        return bind_signature(maker, "train")
    except Unbound as error:
        return error.misfit.binding


def _names_beside(name: str) -> list[str]:
    """Return the usual names of what evaluates, those made of the name of what trains first."""
    counterparts = [name.replace("train", word) for word in COUNTERPARTS] if "train" in name else []
    return list(dict.fromkeys([*counterparts, *EVALUATE_FUNCTIONS]))


def _is_for_pytest(name: str, function: Any, neighbours: Mapping[str, Any]) -> bool:
    """Say whether a function is a test: in a file of tests, marked, or taking what is a fixture beside it."""
    code = function.__code__
    file = Path(code.co_filename).stem
    if name.startswith("test") and (file.startswith("test_") or file.endswith("_test")):
        return True
    fixtures = [neighbours.get(parameter) for parameter in code.co_varnames[: code.co_argcount]]
    return hasattr(function, "pytestmark") or any(
        "fixture" in type(fixture).__name__.lower() or hasattr(fixture, "_pytestfixturefunction")
        for fixture in fixtures
    )
