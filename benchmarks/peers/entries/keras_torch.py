"""Keras on torch: Sequential, compile, fit on arrays in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("keras", "torch")
USED = "Sequential.fit on torch, in memory"


def start(task: Task) -> EpochFunction:
    """Build and compile the model."""
    from ..in_keras import start_on

    return start_on("torch", task)
