"""The parts of a loop that are called: functions, and methods of an instance that each run makes anew."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mnist_loop.verification.binding.signature import Binding
from mnist_loop.verification.binding.target import Target

FoundBy = Literal["declared", "beside"]  # how an evaluation was found


@dataclass(frozen=True)
class Owner:
    """What the methods of a loop belong to: a class, with the binding of its constructor, or an instance."""

    target: Target
    constructor: Binding | None

    def make(self, values: Mapping[str, object]) -> object:
        """Return the instance for one run: made by the class, or a copy of the given one if it can be copied."""
        if self.constructor is not None and self.target.maker is not None:
            return self.constructor.call(self.target.maker, values)
        try:
            return copy.deepcopy(self.target.instance)
        except Exception:  # noqa: BLE001  # copying a user's object may raise anything
            return self.target.instance


@dataclass(frozen=True)
class LoopPart:
    """A function or method of a loop.

    Attributes:
        function: the function, or the method as the class or the given instance has it.
        binding: the roles of its parameters.
        owner: what it is a method of; None for a function.
        method: name of the method, which is looked up on the instance of the run.
        read: the globals that it reads instead of parameters: name to role.
    """

    function: Callable[..., Any]
    binding: Binding
    owner: Owner | None = None
    method: str = ""
    read: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.method or getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def roles(self) -> frozenset[str]:
        """The roles whose values it takes: itself, in the constructor of its class, or from its module."""
        constructor = None if self.owner is None else self.owner.constructor
        read = replace(self.binding, roles=self.read).needs
        return self.binding.needs | (frozenset() if constructor is None else constructor.needs) | read

    def call(self, instance: object, values: Mapping[str, object]) -> Any:
        """Call it with ``values``, from role to value; a method on ``instance``."""
        return self.binding.call(self.function if self.owner is None else getattr(instance, self.method), values)
