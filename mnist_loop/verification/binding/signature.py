"""Binds the parameters of a function to roles by their names, and calls it with the values of these roles."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from inspect import Parameter, Signature
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.verification.binding.given import TakesEveryCall
from mnist_loop.verification.binding.roles import (
    DATA,
    SETTINGS,
    SEVERAL,
    SHARED,
    Loaders,
    LoopArgs,
    Sizes,
    Use,
    is_counter,
    may_be_none_of,
    meanings,
    nearest,
    takes_every_call,
)
from mnist_loop.verification.binding.usage import usage_of

CERTAIN = ("model", "optimizer")  # roles that nothing else is used like
BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

# What a parameter without a default gets where the role has no value: no clipping, and no mixed precision.
WHERE_NONE: Mapping[str, object] = {"clip": math.inf, "mixed": False}

# The roles that a function which takes ``**kwargs`` alone is handed.
TO_ANY = ("model", "train_loader", "test_loader", "loss_fn", "optimizer", "device")


@dataclass(frozen=True)
class Binding:
    """How a function is called: the role of each parameter that has one.

    Attributes:
        roles: from parameter to role.
        signature: the parameters as the author wrote them.
        positional: the parameters that are passed by position, from the first on; the others are keywords.
        handed: from parameter to a value of no role: a literal that is given, or a stand-in.
    """

    roles: Mapping[str, str]
    signature: Signature
    positional: tuple[str, ...] = ()
    handed: Mapping[str, object] = field(default_factory=dict)

    @property
    def needs(self) -> frozenset[str]:
        """The roles whose values are used; ``loaders`` stands for train_loader and val_loader."""
        named = set(self.roles.values()) - SETTINGS.keys()
        return frozenset(
            named - {"loaders", "sizes"} | ({"train_loader", "val_loader"} if "loaders" in named else set())
        )

    def call(self, function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
        """Call ``function`` with ``values``, from role to value.

        A parameter with a default keeps it where its value is None or not given.

        Raises:
            KeyError: no value is given for a role without a default.
        """
        handed: dict[str, Any] = {name: copy.deepcopy(value) for name, value in self.handed.items()}
        for name, role in self.roles.items():
            parameter = self.signature.parameters.get(name)
            value = value_of(role, values)
            has_default = parameter is not None and parameter.default is not Parameter.empty
            if value is not None or (not has_default and role in values):
                handed[name] = WHERE_NONE.get(role) if value is None else value
            elif not has_default:
                raise KeyError(f"no value for {role}, which {name} stands for")
        last = max((self.positional.index(name) + 1 for name in handed if name in self.positional), default=0)
        by_position = [
            handed.pop(name) if name in handed else self.signature.parameters[name].default
            for name in self.positional[:last]
        ]
        return function(*by_position, **handed)


def value_of(role: str, values: Mapping[str, Any]) -> Any:
    """Return the value of a role; None for one without."""
    if role == "loaders" and role not in values:
        return Loaders(values)
    if role == "sizes":
        return Sizes(values)
    if role == "args" and role not in values:
        return LoopArgs(**{**SETTINGS, **values})
    return values.get(role, SETTINGS.get(role))


class BindingError(Exception):
    """A signature that cannot be bound.

    Attributes:
        why: a clause: "nothing is known of cfg2".
        binding: what could be bound.
        unknown: the parameters of which nothing is known.
    """

    def __init__(self, why: str, binding: Binding, unknown: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.binding = binding
        self.unknown = unknown


NOTHING_GIVEN: Mapping[str, Any] = {}


def bind_signature(
    function: Callable[..., Any], use: Use, given: Mapping[str, Any] = NOTHING_GIVEN, *, skip_first: bool = False
) -> Binding:
    """Bind each parameter of ``function`` that has a known name; only a parameter with a default may lack one.

    Args:
        function: what is bound; it is not called.
        use: what it does; a ``loader`` holds training data if it trains.
        given: values for some parameters, by name.
        skip_first: leave out the first parameter, the instance.

    Raises:
        BindingError: a parameter without a default has no known name, or two of them mean the same.
        UserError: Python does not know the signature.
    """
    signature = signature_of(function)
    if skip_first:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    parameters = [parameter for parameter in signature.parameters.values() if parameter.kind not in VARIADIC]
    handed = {parameter.name: given[parameter.name] for parameter in parameters if parameter.name in given}
    free = [parameter for parameter in parameters if parameter.name not in {*_fixed(function), *handed}]
    roles, clash = _assign(free, use, function)
    open_ = [p.name for p in free if p.default is p.empty and p.name not in roles]
    handed |= {name: value for name in open_ if (value := _stand_in(name, function)) is not None}
    binding = Binding(roles, signature, _positional(function, parameters), handed)
    unbound = tuple(name for name in open_ if name not in handed)
    if clash or unbound:
        raise BindingError(clash or _unknown(unbound), binding, unbound)
    if not parameters and not skip_first and not isinstance(function, type) and _takes_any(signature):
        return Binding(dict(zip(TO_ANY, TO_ANY, strict=True)), signature)
    return binding


def _stand_in(name: str, function: Callable[..., Any]) -> object:
    """Return what a parameter is handed that has no role and no default; None for one of which nothing is known."""
    usage = usage_of(function, name)
    if takes_every_call(name) or usage.takes_every_call:
        return TakesEveryCall()
    if is_counter(name) and not usage.is_object:
        return 0
    return () if may_be_none_of(name) and not usage.is_called and not usage.attributes else None


def _takes_any(signature: Signature) -> bool:
    return any(parameter.kind is Parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def signature_of(function: Callable[..., Any]) -> Signature:
    """Return the signature; of a wrapper with ``*args`` or ``**kwargs`` alone, that of the function in its closure.

    Raises:
        UserError: Python does not know it.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise UserError(
            f"{function!r} found, whose parameters Python does not know, expected a function written in Python: "
            "wrap it in one"
        ) from None
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if kinds and kinds <= set(VARIADIC):
        inner = [
            cell.cell_contents
            for cell in getattr(function, "__closure__", None) or ()
            if _filled(cell) and inspect.isfunction(cell.cell_contents)
        ]
        if len(inner) == 1:
            return signature_of(inner[0])
    return signature


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # an empty one raises
    except ValueError:
        return False
    return True


def _fixed(function: Any) -> set[str]:
    """Return the parameters that a ``functools.partial`` has set."""
    return {*function.keywords, *_fixed(function.func)} if isinstance(function, partial) else set()


def _assign(parameters: list[Parameter], use: Use, function: Callable[..., Any]) -> tuple[dict[str, str], str]:
    """Return the role of each parameter that has one, and a clause on two that mean the same, if any."""
    likely = {parameter.name: _likely(parameter, use, function) for parameter in parameters}
    sized = any("batch_size" in roles for roles in likely.values())
    owner: dict[str, str] = {}
    bound: dict[str, str] = {}
    clash = ""

    # Parameters with a single meaning by their name first, and of these the ones without a default.
    def order(parameter: Parameter) -> tuple[bool, bool, bool]:
        name = parameter.name
        return not meanings(name, use), len(likely[name]) > 1, parameter.default is not parameter.empty

    for parameter in sorted(parameters, key=order):
        name, optional = parameter.name, parameter.default is not parameter.empty
        roles = _prefer(likely[name], parameter, sized)
        free = [role for role in roles if role not in owner or role in SHARED]
        if free and not (free[0] == "path" and optional and use != "checkpoint"):  # the loop's own path is kept
            bound[name] = free[0]
            owner[free[0]] = name
        elif roles and not free and not optional and (meanings(name, use) or roles[0] in CERTAIN):
            clash = clash or f"{owner[roles[0]]} and {name} both mean the {roles[0]}"
        elif name in SETTINGS and not roles and not optional:
            bound[name] = name
    return bound, clash


def _likely(parameter: Parameter, use: Use, function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the roles that a parameter may mean: by its name, or else by what is called on it."""
    roles = meanings(parameter.name, use)
    with_usage = DATA.union(SEVERAL["classes"])
    if parameter.default is not parameter.empty or (roles and not with_usage.intersection(roles)):
        return roles
    usage = usage_of(function, parameter.name)
    if roles == SEVERAL["classes"]:
        return roles[::-1] if usage.is_number else roles
    if roles:
        return () if usage.is_number or usage.is_tensor else roles
    kinds = {"optimizer": usage.is_optimizer, "model": usage.is_model, "loss_fn": usage.is_loss}
    kinds["args"] = usage.is_settings and not takes_every_call(parameter.name)
    return tuple(role for role, is_one in kinds.items() if is_one)[:1]


def _prefer(roles: tuple[str, ...], parameter: Parameter, sized: bool) -> tuple[str, ...]:
    """Put the loader before the data set, unless there is a batch size too, or the annotation says otherwise."""
    if len(roles) < 2 or not DATA.issuperset(roles):
        return roles
    annotation = "" if parameter.annotation is parameter.empty else str(parameter.annotation)
    as_set = sized if "Loader" not in annotation and "Dataset" not in annotation else "Loader" not in annotation
    return tuple(sorted(roles, key=lambda role: role.endswith("_set") != as_set))


def _unknown(names: tuple[str, ...]) -> str:
    told = []
    for name in names:
        near = nearest(name)
        told.append(f"{name} (did you mean {near}?)" if near else name)
    return f"nothing is known of {' and '.join([', '.join(told[:-1]), told[-1]] if len(told) > 1 else told)}"


def _positional(function: Callable[..., Any], parameters: list[Parameter]) -> tuple[str, ...]:
    """Return the positional-only parameters; of a wrapper that takes no keywords, all parameters."""
    try:
        outer = {parameter.kind for parameter in inspect.signature(function, follow_wrapped=False).parameters.values()}
    except (TypeError, ValueError):
        outer = set()
    only_positions = Parameter.VAR_POSITIONAL in outer and outer <= {Parameter.VAR_POSITIONAL}
    kinds = BY_POSITION if only_positions else (Parameter.POSITIONAL_ONLY,)
    return tuple(parameter.name for parameter in parameters if parameter.kind in kinds)
