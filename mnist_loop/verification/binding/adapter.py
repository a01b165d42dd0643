"""Writes an adapter to paste, for a loop that cannot be bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from typing import Any

from mnist_loop.verification.binding.roles import ROLES, Use, meanings, nearest
from mnist_loop.verification.binding.signature import Binding
from mnist_loop.verification.binding.target import unwrapped

ORDER = [role.name for role in ROLES]
LOADERS = '{"train": train_loader, "val": val_loader}'


def adapter_source(
    function: Callable[..., Any],
    bindings: Iterable[Binding],
    missing: Iterable[str],
    use: Use,
    method: str = "",
) -> str:
    """Return the source of an adapter: a function with known parameters that calls the loop.

    Args:
        function: the loop that is called: a function or a class.
        bindings: what is known of its parameters; for a class those of the constructor, then those of the method.
        missing: the roles that it needs and does not take.
        use: what the loop does.
        method: called on the instance of a class.
    """
    bindings = list(bindings)
    written = unwrapped(function) if not isinstance(function, type) else function
    module = str(getattr(written, "__module__", "__main__"))
    name = str(getattr(written, "__qualname__", type(written).__qualname__))
    reachable = module.replace(".", "").isidentifier() and module != "__main__" and "<" not in name
    name = name.rpartition("<locals>.")[2].replace("<lambda>", "loop")
    missing = list(missing)
    handed = {role for binding in bindings for role in _guessed(binding).values()} | {*missing}
    if "loaders" in handed:
        handed |= {"train_loader", "val_loader"}
    heads = ", ".join(sorted(handed & set(ORDER) - {"args", "loaders"}, key=ORDER.index))
    lines = [f"def {'adapter' if use == 'train' else 'evaluate'}({heads}):"]
    if reachable:
        lines.insert(0, f"from {module} import {name.split('.')[0]}")
    calls = [f"({_arguments(binding)})" for binding in bindings]
    remark = f"  # it has to work with {' and '.join(missing)}" if missing else ""
    lines.append(f"    return {name}{f'.{method}'.join(calls) if method else calls[0]}{remark}")
    return "\n".join(f"    {line}" for line in lines)


def _guessed(binding: Binding) -> dict[str, str]:
    """Return the role of each parameter; for an unknown name, that of the closest known one."""
    guessed = dict(binding.roles)
    for parameter in binding.signature.parameters.values():
        near = None if parameter.name in guessed else nearest(parameter.name)
        roles = meanings(near, "train") if near is not None and parameter.default is parameter.empty else ()
        if roles and roles[0] not in guessed.values():
            guessed[parameter.name] = roles[0]
    return guessed


def _value(role: str | None) -> str:
    return "..." if role is None else {"loaders": LOADERS, "args": "..."}.get(role, role)


def _arguments(binding: Binding) -> str:
    """Return the arguments of a call, with ``...`` for an unknown value."""
    told = []
    guessed = _guessed(binding)
    for parameter in binding.signature.parameters.values():
        role = guessed.get(parameter.name)
        required = parameter.default is parameter.empty and parameter.kind not in (
            Parameter.VAR_POSITIONAL,
            Parameter.VAR_KEYWORD,
        )
        if role is not None or required:
            value = _value(role if role in ORDER else None)
            told.append(value if parameter.kind is Parameter.POSITIONAL_ONLY else f"{parameter.name}={value}")
    return ", ".join(told)


def parameters_of(signature: Signature) -> str:
    """Return the parameters as text, without annotations."""
    bare = [parameter.replace(annotation=Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=Signature.empty))
