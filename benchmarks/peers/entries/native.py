"""Our engine `native`: the lesson in C."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.peers.engine import EngineEpoch

if TYPE_CHECKING:
    from benchmarks.peers.entries import Epoch
    from benchmarks.peers.task import Task

NEEDS = ("torch",)
USED = "our engine, in memory"


def start(task: Task) -> Epoch:
    """Start the engine."""
    return EngineEpoch("native", task)
