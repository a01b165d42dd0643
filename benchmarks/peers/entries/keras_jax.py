"""Keras on JAX: Sequential, compile, fit on arrays in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.peers.entries import Epoch
    from benchmarks.peers.task import Task

NEEDS = ("keras", "jax")
USED = "Sequential.fit on JAX, in memory"


def start(task: Task) -> Epoch:
    """Build and compile the model."""
    from benchmarks.peers.in_keras import start_on

    return start_on("jax", task)
