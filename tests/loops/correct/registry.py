"""The list of the correct loops, and the decorator that fills it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mnist_loop.verification.binding.intentions import declare

T = TypeVar("T")


@dataclass(frozen=True)
class Correct:
    """A loop in which no law may find a bug.

    Attributes:
        name: module and name, as in ``steps.clears_after_step``.
        loop: the function, class or object that trains.
        spec: what a user would type, ``module:name``.
        needs: the module that it imports when it runs, where that is none that mnist_loop itself depends on.
        breaks: what its framework really does wrong, by design or by mistake: from the bug's id to the reason. These
            findings are right, and expected.
    """

    name: str
    loop: Any
    spec: str
    needs: str | None = None
    breaks: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


CORRECT: list[Correct] = []


def correct(
    *, name: str | None = None, needs: str | None = None, breaks: Mapping[str, str] | None = None, **intentions: Any
) -> Callable[[T], T]:
    """Put a loop into `CORRECT`, with its declared intentions.

    Args:
        name: the name that the loop has in its module, where it has none of its own.
        needs: the module that it imports when it runs.
        breaks: findings that are right, from the bug's id to the reason.
        intentions: what `declare` takes.
    """
    module = sys._getframe(1).f_globals["__name__"]  # inspect.stack() would read the source of every frame

    def register(loop: T) -> T:
        own_name = name or loop.__name__  # type: ignore[attr-defined]  # what has none is given one
        full_name = f"{module.removeprefix('tests.loops.correct.')}.{own_name}"
        assert full_name not in {known.name for known in CORRECT}, f"two correct loops are named {full_name}"
        spec = f"{module}:{own_name}"
        CORRECT.append(Correct(full_name, declare(**intentions)(loop), spec, needs, breaks or {}))
        return loop

    return register
