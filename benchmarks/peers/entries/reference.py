"""The lesson as written: its loop, and torchvision's DataLoader that prepares one image at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.peers.engine import EngineEpoch

if TYPE_CHECKING:
    from benchmarks.peers.entries import Epoch
    from benchmarks.peers.task import Task

NEEDS = ("torch",)
USED = "the lesson's loop, torchvision and DataLoader"


def start(task: Task) -> Epoch:
    """Start the engine."""
    return EngineEpoch("reference", task)
