"""The parts of a loop that can be called: functions, and methods of what is made for each run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mnist_loop.verification.binding.binding import Binding
from mnist_loop.verification.binding.target import Target


@dataclass(frozen=True)
class Owner:
    """What the methods of a loop belong to: ``target``, and how its class is called, where it is one."""

    target: Target
    constructor: Binding | None

    def make(self, values: Mapping[str, object]) -> object:
        """Return the instance of one run: made by the class, or a copy of the one that there is, if it can be had."""
        if self.constructor is not None and self.target.maker is not None:
            return self.constructor.call(self.target.maker, values)
        try:
            return copy.deepcopy(self.target.instance)
        except Exception:  # noqa: BLE001  # anything may come out of copying a stranger's object
            return self.target.instance


@dataclass(frozen=True)
class Part:
    """Something of a loop that can be called.

    Attributes:
        function: what is called; of a method, as the class or the given instance has it.
        binding: how it is called.
        owner: what it is a method of; None for a function.
        method: its name, by which it is looked up on the instance of the run.
    """

    function: Callable[..., Any]
    binding: Binding
    owner: Owner | None = None
    method: str = ""

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.method or getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def roles(self) -> frozenset[str]:
        """The roles whose values it is handed, or the constructor of its class."""
        constructor = None if self.owner is None else self.owner.constructor
        return self.binding.needs | (frozenset() if constructor is None else constructor.needs)

    def call(self, instance: object, values: Mapping[str, object]) -> Any:
        """Call it with ``values``, from role to value; a method on ``instance``."""
        return self.binding.call(self.function if self.owner is None else getattr(instance, self.method), values)
