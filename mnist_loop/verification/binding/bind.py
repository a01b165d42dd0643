"""``bind``: learn what each parameter of a loop means, without running it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.verification.binding import intentions, objective
from mnist_loop.verification.binding.binder import EVALUATE_FUNCTIONS, Binder
from mnist_loop.verification.binding.contract import Contract
from mnist_loop.verification.binding.cuda_written_out import NOTE, is_written_out
from mnist_loop.verification.binding.resolve import (
    attribute_of,
    check_command,
    folders_of,
    import_named,
    notes_on,
    public_names,
)
from mnist_loop.verification.binding.target import codes_of, location_of, target_of


def bind(loop: object, evaluate: object = None, given: Mapping[str, Any] | None = None, **declared: object) -> Contract:
    """Bind a loop.

    Args:
        loop: what trains: a function, a class, an object with ``fit`` or the like, or the text that names one.
        evaluate: what evaluates; by default what the loop declares, or what is beside it under a usual name.
        given: values for parameters, globals and settings, by name.
        **declared: intentions, on top of what the loop declares itself.

    Raises:
        UserError: it is not a loop, a parameter cannot be bound, or an intention is unknown or wrong.
    """
    given, spec = dict(given or {}), loop if isinstance(loop, str) else ""
    if isinstance(loop, str):
        loop = find_loop(loop)
    target = target_of(loop)
    meant = intentions.declared_by(loop)
    if meant is intentions.DEFAULT and target.owner_class is not None:
        meant = intentions.declared_by(target.owner_class)
    beside = declared if evaluate is None else {**declared, "evaluate": evaluate}
    meant = intentions.checked(beside, meant)
    binder = Binder(target, meant, find_loop, given, spec, beside)
    training = binder.training()
    evaluation, found_by = binder.evaluation()
    if isinstance(meant.model, str):
        meant = intentions.checked({"model": binder.look_up(meant.model)}, meant)
    if meant.objective is not None:
        found = binder.look_up(meant.objective) if isinstance(meant.objective, str) else meant.objective
        objective.beside(found)
        meant = intentions.checked({"objective": found, "own_objective": True}, meant)
    functions = binder.functions(evaluation)
    writes_cuda = is_written_out(functions)
    given = binder.checked_given()
    off = [name for name in binder.off() if not any(one.endswith(f".{name}") for one in given)]
    told = [*notes_on(binder.module), *([NOTE.format(name=binder.title)] if writes_cuda else [])]
    told += [f"taken as off: {', '.join(off)}; hand over another value with --give args.{off[0]}=VALUE"] if off else []
    return Contract(
        name=binder.title,
        location=location_of(training.function),
        intentions=meant,
        training=training,
        evaluation=evaluation,
        found_evaluate_by=found_by,
        saving=binder.checkpointing(meant.save),
        loading=binder.checkpointing(meant.load),
        owner=training.owner,
        whole_fit=binder.is_whole(),
        folders=folders_of(binder.module),
        adapter=binder.adapter(),
        given=given,
        settings={**dict.fromkeys(off, False), **binder.settings()},
        calls_forward=any("forward" in code.co_names for one in functions for code in codes_of(one)),
        writes_cuda=writes_cuda,
        notes=tuple(told),
    )


def find_loop(spec: str) -> Any:
    """Import what ``spec`` names, and return it.

    Args:
        spec: ``file.py:name`` or ``package.module:name``; the name may be dotted. Without a name, the only loop that is
            defined there.

    Raises:
        UserError: there is no such file, module or name, a module fails at import, or the thing cannot be called.
    """
    module, place, name = import_named(spec)
    return attribute_of(module, place, name) if name else _only_loop(module, place)


def _only_loop(module: ModuleType, place: str) -> Any:
    """Return the only thing defined in ``module`` that trains."""
    found = {}
    for name in public_names(module):
        if name not in EVALUATE_FUNCTIONS:
            with contextlib.suppress(UserError):
                found[name] = bind(getattr(module, name)).roles
    if len(found) > 1:  # a helper may take a model and data too, but rarely an optimizer
        found = {name: roles for name, roles in found.items() if "optimizer" in roles} or found
    if len(found) == 1:
        return getattr(module, next(iter(found)))
    if found:
        choice = ", ".join(f"{place}:{name}" for name in found)
        raise UserError(f"{place} holds {len(found)} loops, expected the name of one: say which, of {choice}")
    check = f", or, if it trains when it runs, {check_command(place)}"
    public = ", ".join(f"{place}:{name}" for name in public_names(module))
    raise UserError(
        f"{place} holds no loop that can be bound, expected a function or class that takes a model and data: "
        f"{f'name one of {public}, to see why not' if public else 'name a file that does'}{check}"
    )
