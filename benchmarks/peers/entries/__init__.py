"""The entries: one module each, all with the two constants and the function of `Entry`.

A module imports its framework in `start` alone, so that one that is not installed can be named without being there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from mnist_loop.errors import UserError

if TYPE_CHECKING:
    from benchmarks.peers.task import Task

REFERENCE = "reference"
NAMES = (
    REFERENCE,
    "resident",
    "handwritten",
    "native",
    "compiled",
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

# Trains the model once more on each image, in a new random order, and returns the mean training loss per image, that of
# each batch taken before the step it led to. When it returns, nothing is still being computed.
Epoch = Callable[[], float]


class Entry(Protocol):
    """One way to train the task."""

    NEEDS: tuple[str, ...]  # the distributions that must be installed
    USED: str  # how it is used, in a few words, for the table

    def start(self, task: Task) -> Epoch:
        """Build model, data and optimizer from ``task``; where the result has a ``prepare``, that is called once."""
        ...


def load(name: str) -> Entry:
    """Return the entry of that name.

    Raises:
        UserError: there is none.
    """
    if name not in NAMES:
        raise UserError(f"entry {name!r}: not known, expected {', '.join(NAMES)}")
    return cast("Entry", import_module(f"{__name__}.{name.replace('-', '_')}"))
