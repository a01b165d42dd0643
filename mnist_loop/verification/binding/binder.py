"""Finds and binds the parts of a loop: what trains, what evaluates, what writes and reads checkpoints."""

from __future__ import annotations

import dataclasses
import inspect
import linecache
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.verification.binding import adapter
from mnist_loop.verification.binding.given import command, options_for
from mnist_loop.verification.binding.global_names import given_globals, globals_of, reachable, settings_read
from mnist_loop.verification.binding.intentions import Intentions
from mnist_loop.verification.binding.parser_defaults import PLAIN, parser_defaults
from mnist_loop.verification.binding.parts import FoundBy, LoopPart, Owner
from mnist_loop.verification.binding.roles import DATA, ROLES, SETS, SETTINGS, Use, meanings
from mnist_loop.verification.binding.signature import NOTHING_GIVEN, Binding, BindingError, bind_signature
from mnist_loop.verification.binding.switches import switches_of
from mnist_loop.verification.binding.target import (
    TRAIN_METHODS,
    Target,
    check_sync,
    codes_of,
    methods_of,
    target_of,
    title_of,
    unwrapped,
)
from mnist_loop.verification.binding.usage import usage_of

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
# The words that replace "train" in the name of an evaluation: train_loop and test_loop.
COUNTERPARTS = ("evaluate", "eval", "validate", "validation", "valid", "val", "test")


class Binder:
    """Binds the parts of one loop.

    Args:
        target: the loop.
        meant: its intentions.
        find: imports what a text names.
        given: values for parameters, globals and settings, by name.
        spec: the text that names the loop; "" if none does.
        declared: the intentions that are declared beside the loop, such as on the command line.

    Attributes:
        title: the name of the loop for people.
        module: the name of the module that it is written in.
    """

    def __init__(
        self,
        target: Target,
        meant: Intentions,
        find: Callable[[str], Any],
        given: Mapping[str, Any] = NOTHING_GIVEN,
        spec: str = "",
        declared: Mapping[str, Any] = NOTHING_GIVEN,
    ) -> None:
        self._declared_beside = declared
        self._target = target
        self._given = given
        self._spec = spec
        self._meant = meant
        self._find = find
        self._subject: Any = target.function or target.owner_class
        self._training: LoopPart | None = None
        self.title = title_of(self._subject, target.method)
        self.module = str(getattr(unwrapped(self._subject), "__module__", ""))

    def training(self) -> LoopPart:
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

    def evaluation(self) -> tuple[LoopPart | None, FoundBy | None]:
        """Bind what evaluates: what is declared, or else what is found beside the loop; None if there is none.

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

    def checkpointing(self, declared: object) -> LoopPart | None:
        """Bind what is declared to write or read a checkpoint.

        Raises:
            UserError: it cannot be bound, or takes no path.
        """
        if declared is None:
            return None
        part = self._declared(declared, "checkpoint")
        if "path" not in part.roles:
            raise self._error(part.function, BindingError("it takes no path", part.binding), "checkpoint", part.method)
        return part

    def look_up(self, text: str) -> Any:
        """Return what a declaration names: something in the module of the loop, or else something to import."""
        found = self._neighbours().get(text)
        return found if callable(found) else self._find(text)

    def is_whole(self) -> bool:
        """Say whether one call trains all epochs: it takes or reads their number, and takes no ``epoch``."""
        part = self._training
        assert part is not None
        written = unwrapped(part.function)
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
        parsed = {"epoch"} & self.settings().keys()  # of a parser, it is their number
        return builds_loaders or bool(parsed & read) or any("epochs" in meanings(word, "train") for word in read)

    def adapter(self) -> str:
        """Return an adapter that fits what trains, to paste and to change."""
        part = self._training
        assert part is not None
        return self._adapter(part.function, part.binding, "train", part.method)[1]

    def checked_given(self) -> Mapping[str, Any]:
        """Return what is given.

        Raises:
            UserError: nothing takes a value of that name.
        """
        part = self._training
        assert part is not None
        constructor = None if part.owner is None else part.owner.constructor
        taken = {*part.binding.handed, *(() if constructor is None else constructor.handed)}
        functions = [*self._functions()]
        for name in self._given.keys() - taken:
            head, dot, _ = name.partition(".")
            has_it = (bool(dot) and "args" in part.roles) or any(
                head in settings_read(one) if dot else given_globals(one, self._given) for one in functions
            )
            if not has_it:
                what = "settings of that name" if dot else "parameter or global of that name"
                raise UserError(f"--give {name} found, expected a name that {self.title} takes: it has no {what}")
        return self._given

    def settings(self) -> Mapping[str, Any]:
        """Return the defaults of the parser in the file of the loop, with what the file makes of them."""
        written = unwrapped(next(iter(self._functions()), None))
        code = getattr(written, "__code__", None)
        source = None if code is None else "".join(linecache.getlines(code.co_filename))
        if not source:
            return {}
        parsed = [one for one in written.__globals__.values() if type(one) is Namespace]
        made = {name: value for one in parsed for name, value in vars(one).items() if isinstance(value, PLAIN)}
        return {**parser_defaults(source, written.__globals__), **made}

    def off(self) -> list[str]:
        """Return the settings of no known value of which the loop only asks whether they are on: they are off."""
        part = self._training
        assert part is not None
        if "args" not in part.roles:
            return []
        known = {*self.settings(), *SETTINGS}
        own = [name for name, role in part.binding.roles.items() if role == "args"]
        found = dict.fromkeys(name for one in self._functions() for name in switches_of(one, own))
        return [name for name in found if name not in known and not meanings(name, "train")]

    def functions(self, evaluation: LoopPart | None) -> list[Any]:
        """Return the functions of the loop and of its evaluation, with those that they call, of files beside too."""
        roots = [*self._functions(), *([] if evaluation is None else [evaluation.function])]
        return [one for root in roots for one in reachable(root, beside=True)]

    def _functions(self) -> list[Any]:
        """Return the functions of the loop: the one that trains, or those of its class."""
        owned = self._target.owner_class
        if owned is None:
            return [self._target.function]
        return [part for base in owned.__mro__ for part in vars(base).values() if inspect.isfunction(part)]

    def _part(self, function: Callable[..., Any], use: Use) -> LoopPart:
        check_sync(function, title_of(function))
        try:
            return self._reading(LoopPart(function, bind_signature(function, use, self._given)), use)
        except BindingError as error:
            raise self._error(function, error, use) from None

    def _reading(self, part: LoopPart, use: Use) -> LoopPart:
        """Return the part with the globals that it reads instead of parameters."""
        return dataclasses.replace(part, read=globals_of(part.function, use, part.roles, self._given))

    def _method_that_trains(self) -> LoopPart:
        refused: list[tuple[str, Callable[..., Any], BindingError]] = []
        names = (self._target.method,) if self._target.method else TRAIN_METHODS
        for name, function, needs_self in methods_of(self._target, names):
            check_sync(function, title_of(self._subject, name))
            try:
                binding = bind_signature(function, "train", self._given, skip_first=needs_self)
            except BindingError as error:
                refused.append((name, function, error))
            else:
                return self._reading(LoopPart(function, binding, self._owner(), name), "train")
        if not refused:
            expected = ", ".join(TRAIN_METHODS[:-1])
            raise UserError(f"{self.title} found, which has no method that trains, expected one of {expected}: name it")
        name, function, reason = refused[0]
        raise self._error(function, reason, "train", name)

    def _owner(self) -> Owner:
        if self._target.maker is None:
            return Owner(self._target, None)
        try:
            return Owner(self._target, bind_signature(self._target.maker, "train", self._given))
        except BindingError as error:
            raise self._error(self._target.maker, error, "train") from None

    def _method(self, name: str, use: Use) -> LoopPart | None:
        """Bind another method of the class that the loop belongs to; None if it has none of this name.

        Raises:
            BindingError: its signature cannot be bound.
            UserError: it is async.
        """
        assert self._training is not None
        for _, function, needs_self in methods_of(self._target, (name,)):
            check_sync(function, title_of(self._subject, name))
            binding = bind_signature(function, use, self._given, skip_first=needs_self)
            return self._reading(LoopPart(function, binding, self._training.owner, name), use)
        return None

    def _beside(self) -> LoopPart | None:
        """Return the evaluation in the same class or module: it has a usual name, and takes a model and data."""
        assert self._training is not None
        if self._training.owner is not None:
            for name in EVALUATE_METHODS:
                part = None if name == self._training.method else _quietly(self._method, name, "evaluate")
                if part is not None:
                    return part
        scope = unwrapped(self._subject)
        if "." in getattr(scope, "__qualname__", "."):
            return None  # what is defined inside a function or a class has no module-level neighbours
        neighbours = self._neighbours()
        for name in _names_beside(str(getattr(scope, "__name__", ""))):
            written = unwrapped(neighbours.get(name))
            own = inspect.isfunction(written) and written.__module__ == self.module and written is not scope
            if own and not _is_for_pytest(name, written, neighbours) and not _is_part(name, written, scope):
                part = _quietly(self._part, neighbours[name], "evaluate")
                if part is not None and not self._lacks(part, "evaluate"):
                    return part
        return None

    def _neighbours(self) -> dict[str, Any]:
        """Return the names in the module of the loop."""
        module = sys.modules.get(self.module)
        return {**(vars(module) if module else {}), **getattr(unwrapped(self._subject), "__globals__", {})}

    def _declared(self, declared: Any, use: Use) -> LoopPart:
        """Bind what is declared: a method of the same class, any function, or the text that names one."""
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
            except BindingError as error:
                raise self._error(declared, error, use, target.method) from None
            assert part is not None
            return part
        if target.maker is None:
            return self._part(declared, use)
        raise UserError(
            f"{title_of(target.owner_class)} found, which is a class of its own, expected a function or a method of "
            f"{self.title}: write a function that calls it"
        )

    def _is_same(self, target: Target) -> bool:
        """Say whether ``target`` is of the same class as the loop."""
        if self._target.owner_class is None or target.owner_class is None:
            return False
        if target.maker is None:
            return target.instance is self._target.instance
        return issubclass(self._target.owner_class, target.owner_class)

    def _lacks(self, part: LoopPart, use: Use) -> list[str]:
        """Return which of model and data ``part`` does not take. A method that evaluates has them in its instance."""
        if use == "evaluate" and part.owner is not None:
            return []
        lacking = [] if "model" in part.roles or self._meant.model is not None else ["model"]
        return lacking if part.roles & DATA else [*lacking, "data"]

    def _check_enough(self, part: LoopPart, use: Use) -> None:
        lacking = self._lacks(part, use)
        if not lacking:
            return
        why = f"it takes no {' and no '.join(lacking)}"
        if "model" in lacking:
            why += " (where it makes its own model, declare model=)"
        data = "train_loader" if use == "train" else "test_loader"
        missing = [data if role == "data" else role for role in lacking]
        raise self._error(part.function, BindingError(why, part.binding), use, part.method, missing)

    def _error(
        self,
        function: Any,
        error: BindingError,
        use: Use,
        method: str = "",
        missing: Iterable[str] = (),
    ) -> UserError:
        """Return the error for ``function``, with an adapter to paste."""
        title, source = self._adapter(function, error.binding, use, method, missing)
        known = ", ".join(role.name for role in ROLES)
        found = f"{title}{adapter.parameters_of(error.binding.signature)} found: {error.why}, expected parameters named"
        if error.unknown and self._spec and not any(usage_of(function, name).is_object for name in error.unknown):
            to_type = command(self._spec, self._given, self._declared_beside, options_for(error.unknown))
            return UserError(
                f"{found} for what they take: hand over a literal of Python ({to_type}), or write an adapter"
                f"\n\n{source}\n"
            )
        return UserError(
            f"{found} for what they take ({known}, in any usual spelling): rename them, give them defaults, or write "
            f"an adapter\n\n{source}\n"
        )

    def _adapter(
        self,
        function: Any,
        binding: Binding,
        use: Use,
        method: str = "",
        missing: Iterable[str] = (),
    ) -> tuple[str, str]:
        """Return the title of ``function`` and the source of an adapter for it."""
        title, called, bindings = title_of(function), function, [binding]
        owned = self._target.owner_class
        if method and owned is not None:
            title, called = title_of(owned, method), owned
            bindings.insert(0, _as_far_as_known(self._target.maker or owned))
        return title, adapter.adapter_source(called, bindings, missing, use, method)


def _quietly(bind: Callable[[Any, Use], LoopPart | None], what: object, use: Use) -> LoopPart | None:
    """Return the part that is found; None if it cannot be bound."""
    try:
        return bind(what, use)
    except (BindingError, UserError):
        return None


def _as_far_as_known(maker: Callable[..., Any]) -> Binding:
    try:
        return bind_signature(maker, "train")
    except BindingError as error:
        return error.binding


def _names_beside(name: str) -> list[str]:
    """Return the usual names of an evaluation: first those made of the name of the loop."""
    counterparts = [name.replace("train", word) for word in COUNTERPARTS] if "train" in name else []
    return list(dict.fromkeys([*counterparts, *EVALUATE_FUNCTIONS]))


def _is_part(name: str, function: Any, loop: Any) -> bool:
    """Say whether a loop calls a function in an eval mode that it sets itself: alone that is no evaluation."""
    sets_mode, calls = ({word for code in codes_of(one) for word in code.co_names} for one in (function, loop))
    return name in calls and "eval" in calls and "eval" not in sets_mode


def _is_for_pytest(name: str, function: Any, neighbours: Mapping[str, Any]) -> bool:
    """Say whether a function is a test of pytest: it is in a test file, is marked, or takes a fixture."""
    code = function.__code__
    file = Path(code.co_filename).stem
    if name.startswith("test") and (file.startswith("test_") or file.endswith("_test")):
        return True
    fixtures = [neighbours.get(parameter) for parameter in code.co_varnames[: code.co_argcount]]
    return hasattr(function, "pytestmark") or any(
        "fixture" in type(fixture).__name__.lower() or hasattr(fixture, "_pytestfixturefunction")
        for fixture in fixtures
    )
