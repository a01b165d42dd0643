"""The globals of a module that a loop reads instead of parameters: net, train_loader, optimizer, args."""

from __future__ import annotations

import builtins
import dis
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset

from mnist_loop.support.authored import is_authored
from mnist_loop.verification.binding.roles import DATA, SHARED, Use, meanings, takes_every_call
from mnist_loop.verification.binding.target import codes_of, unwrapped
from mnist_loop.verification.binding.usage import Usage, usage_of

_DATA = (DataLoader, Dataset)
_NUMBER = (int, float)
# What may stand in the module for a global that the loop is handed: anything else there is the module's own.
REPLACED: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(DATA, _DATA),
    "loaders": (dict,),
    "sizes": (dict,),
    "model": (nn.Module,),
    "loss_fn": (nn.Module,),
    "optimizer": (Optimizer,),
    "scheduler": (LRScheduler,),
    "scaler": (torch.amp.GradScaler,),
    "device": (torch.device, str),
    "epochs": _NUMBER,
    "batch_size": _NUMBER,
    "lr": _NUMBER,
    "args": (object,),
}
_MISSING = object()


def reachable(function: Any, *, beside: bool = False) -> Iterator[FunctionType]:
    """Yield a function, and the functions of the same module that it calls by a global name.

    Args:
        function: where it begins.
        beside: go on into other files in the folder of the first.
    """
    todo, seen = [unwrapped(function)], set()
    code = getattr(todo[0], "__code__", None)
    folder = "" if code is None else str(Path(code.co_filename).parent)
    while todo:
        one = todo.pop()
        if not isinstance(one, FunctionType) or one in seen:
            continue
        seen.add(one)
        yield one
        for name in read_by(one):
            found = unwrapped(one.__globals__.get(name))
            if inspect.isfunction(found) and (
                found.__globals__ is one.__globals__ or (beside and is_beside(found.__code__.co_filename, folder))
            ):
                todo.append(found)


def is_beside(file: str, folder: str) -> bool:
    """Return whether a file of the author's is in a folder, or in one within it."""
    return bool(folder) and is_authored(file) and file.startswith(f"{folder}/")


def read_by(function: Any) -> set[str]:
    """Return the names of the globals that ``function`` reads, and does not assign."""
    found = [_globals_in(code) for code in codes_of(function)]
    return {name for reads, _ in found for name in reads} - {name for _, assigned in found for name in assigned}


@cache
def _globals_in(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the globals that code reads, and of those that it assigns: both are asked at each call."""
    found = [(one.opname, one.argval) for one in dis.get_instructions(code)]
    reads = frozenset(name for kind, name in found if kind in ("LOAD_GLOBAL", "LOAD_NAME"))
    return reads, frozenset(name for kind, name in found if kind in ("STORE_GLOBAL", "DELETE_GLOBAL"))


def globals_of(function: Any, use: Use, taken: frozenset[str], given: Mapping[str, Any]) -> dict[str, str]:
    """Return the globals that ``function`` is handed: name to role.

    Args:
        function: trains or evaluates.
        use: which of both.
        taken: the roles that it takes as parameters.
        given: values by name, which come first.
    """
    found: dict[str, list[str]] = {}
    for one in reachable(function):
        for name in sorted(read_by(one) - given.keys()):
            for role in _roles(one, name, use):
                if role not in taken:
                    found.setdefault(role, [])
                    if name not in found[role]:
                        found[role].append(name)
    # Of two names for the same thing it cannot be told which is meant.
    certain = {role: names for role, names in found.items() if len(names) == 1 or role in SHARED | {"args"}}
    return {name: role for role, names in certain.items() for name in names}


def _roles(function: FunctionType, name: str, use: Use) -> tuple[str, ...]:
    present = function.__globals__.get(name, _MISSING)
    if hasattr(builtins, name) or inspect.ismodule(present) or inspect.isroutine(present):
        return ()
    usage = usage_of(function, name)
    roles = [role for role in _meanings(name, use) if role in REPLACED and _fits(usage, role)]
    if present is not _MISSING and present is not None:
        roles = [role for role in roles if isinstance(present, REPLACED[role]) and not isinstance(present, type)]
    return tuple(roles[:1])


def _meanings(name: str, use: Use) -> tuple[str, ...]:
    """Return the roles that a global may mean; that of a loader may stand behind the name of a data set."""
    roles = meanings(name, use)
    words = name.split("_")
    for first in range(1, len(words) - 1):  # cifar100_training_loader
        if not roles and DATA.intersection(found := meanings("_".join(words[first:]), use)):
            roles = found
    return roles


def _fits(usage: Usage, role: str) -> bool:
    if role == "optimizer":
        return not usage.attributes or bool({"step", "zero_grad", "param_groups", "state_dict"} & usage.attributes)
    return role not in DATA or not (usage.is_number or usage.is_tensor)


def given_globals(function: Any, given: Mapping[str, Any]) -> set[str]:
    """Return which given names are globals that ``function`` reads."""
    return {name for one in reachable(function) for name in read_by(one) & given.keys()}


def missing_writers(function: Any) -> set[str]:
    """Return the globals that ``function`` reads, that are not there, and that are writers, loggers or bars."""
    return {
        name
        for one in reachable(function)
        for name in read_by(one) - one.__globals__.keys()
        if (takes_every_call(name) or usage_of(one, name).takes_every_call) and not hasattr(builtins, name)
    }


def settings_read(function: Any) -> set[str]:
    """Return the names under which ``function`` reads settings: parameters and globals."""
    names = {
        name for one in reachable(function) for code in codes_of(one) for name in (*code.co_varnames, *code.co_names)
    }
    return {name for name in names if "args" in meanings(name, "train")}
