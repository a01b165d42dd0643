"""The function that a loop declares as its objective: what it takes."""

from __future__ import annotations

import inspect
from typing import Any

from mnist_loop.errors import UserError

FIRST = 3  # of its parameters: the model, images, labels
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def beside(objective: Any) -> dict[str, bool]:
    """Return the names of the variables that an objective takes, and which of them it can do without.

    Raises:
        UserError: it does not take a model, images and labels.
    """
    name = getattr(objective, "__qualname__", type(objective).__qualname__)
    expected = "expected objective(model, images, labels), and then variables of the loop by their names"
    try:
        parameters = [*inspect.signature(objective).parameters.values()]
    except (TypeError, ValueError):
        raise UserError(f"{name} found as the objective, which has no signature, {expected}") from None
    if sum(one.kind in POSITIONAL for one in parameters[:FIRST]) < FIRST:
        shown = ", ".join(one.name for one in parameters)
        raise UserError(f"{name}({shown}) found as the objective, {expected}")
    rest = [one for one in parameters[FIRST:] if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    return {one.name: one.default is not one.empty for one in rest}
