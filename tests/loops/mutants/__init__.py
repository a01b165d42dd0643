"""Loops as people write them, each with exactly one bug, and the bug's id in the catalogue.

A mutant is a whole loop: a function, a class or a generator, with the names and the style that its author happened to
like. Its docstring says what is wrong. In all else it is correct. ``# the likely line`` marks the
line that a finding of it shows, if it shows one. `mnist_loop.bugs` says how to add a mutant.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from mnist_loop.bugs import MODULES
from mnist_loop.verification.binding.intentions import declare

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Mutant:
    """A broken loop.

    Attributes:
        bug: the id that must be named.
        loop: the function or class.
        name: subject and name of the loop, "gradients.never_clears".
        spec: where to find it, as one types it: "tests.loops.mutants.gradients:never_clears".
    """

    bug: str
    loop: Any
    name: str
    spec: str

    def __str__(self) -> str:
        return self.name


MUTANTS: list[Mutant] = []


def mutant(bug: str, **intentions: Any) -> Callable[[T], T]:
    """Register a loop as one with that bug; the keywords are what its author declares, ``evaluate`` among them."""

    def register(loop: T) -> T:
        declared = declare(**intentions)(loop)
        subject = loop.__module__.rpartition(".")[2]
        MUTANTS.append(
            Mutant(bug, declared, f"{subject}.{loop.__qualname__}", f"{loop.__module__}:{loop.__qualname__}")
        )
        return declared

    return register


@torch.no_grad()
def evaluate(model, loader, loss_fn, device):
    """Mean loss per sample and accuracy, as they should be: for the loops whose bug is elsewhere."""
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        outputs = model(inputs)
        loss += loss_fn(outputs, targets) * len(targets)
        correct += (outputs.argmax(dim=1) == targets).sum()
        count += len(targets)
    return float(loss / count), float(correct / count)


# Last, because these modules import from this one. Each subject of the catalogue has one.
for _module in MODULES:
    importlib.import_module(f"{__name__}.{_module.__name__.rpartition('.')[2]}")
