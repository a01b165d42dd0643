"""The entries: our engines, and one module a framework, all with the two constants and the function of `PeerEntry`.

A framework is imported in `start` alone: an entry has its name and its facts where its framework is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from mnist_loop.errors import UserError

if TYPE_CHECKING:
    from ..task import Task

REFERENCE = "reference"
ENGINES = (REFERENCE, "resident", "handwritten", "native", "compiled")
NAMES = (
    *ENGINES,
    "lightning",
    "lightning-memory",
    "fabric",
    "accelerate",
    "ignite",
    "skorch",
    "fastai",
    "keras-torch",
    "keras-jax",
    "jax-step",
    "jax-scan",
    "tinygrad",
    "scikit-learn",
    "numpy",
)

# Trains the model on each image once, in a new random order, and returns the mean training loss per image, in which the
# loss of a batch is that before its step. All work is done when it returns.
EpochFunction = Callable[[], float]


class PeerEntry(Protocol):
    """One way to train the task."""

    NEEDS: tuple[str, ...]  # the distributions that must be installed
    USED: str  # how it is used, in a few words, for the table

    def start(self, task: Task) -> EpochFunction:
        """Build model, data and optimizer from ``task``; a ``prepare`` of the result is called once."""
        ...


class EngineEntry:
    """An engine of `mnist_loop.engines` as an entry."""

    NEEDS: tuple[str, ...] = ("torch",)

    def __init__(self, name: str) -> None:
        self.name = name
        in_memory = "our engine, in memory"
        self.USED = "the lesson's loop, torchvision and DataLoader" if name == REFERENCE else in_memory

    def start(self, task: Task) -> EpochFunction:
        """Start the engine."""
        from ..engine import EngineEpoch

        return EngineEpoch(self.name, task)


def load_entry(name: str) -> PeerEntry:
    """Return the entry of that name.

    Raises:
        UserError: there is none.
    """
    if name not in NAMES:
        raise UserError(f"entry {name!r}: not known, expected {', '.join(NAMES)}")
    if name in ENGINES:
        return EngineEntry(name)
    return cast("PeerEntry", import_module(f"{__name__}.{name.replace('-', '_')}"))
