"""The global state that a loop may not leave changed: read before a run, compared and restored after it."""

from __future__ import annotations

import gc
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import module as module_hooks
from torch.optim import SGD, Optimizer

from mnist_loop.verification.binding.foreign import foreign_code

LINGER = 0.2  # seconds for a thread that is about to end
GLOBAL_HOOKS = [name for name in vars(module_hooks) if name.startswith("_global_") and name.endswith("_hooks")]

# Functions that loops call and that some people patch; put back where they are no longer the same object.
PATCHABLE: tuple[tuple[Any, str], ...] = (
    (functional, "cross_entropy"),
    (functional, "nll_loss"),
    (functional, "dropout"),
    (functional, "softmax"),
    (functional, "log_softmax"),
    (torch.Tensor, "backward"),
    (torch.Tensor, "item"),
    (torch, "manual_seed"),
    (torch, "no_grad"),
    (nn.Module, "__call__"),
    (nn.Module, "train"),
    (nn.Module, "eval"),
    (Optimizer, "zero_grad"),
    (SGD, "step"),
)


@dataclass(frozen=True)
class StatePart:
    """One part of the global state: how to read it, as something comparable, and how to put it back."""

    read: Callable[[], Any]
    restore: Callable[[Any], object]


def _hooks() -> dict[str, list[int]]:
    return {name: list(getattr(module_hooks, name)) for name in GLOBAL_HOOKS}


def _remove_new_hooks(before: dict[str, list[int]]) -> None:
    for name, kept in before.items():
        hooks = getattr(module_hooks, name)
        for key in [key for key in hooks if key not in kept]:
            del hooks[key]


def _patched() -> list[Any]:
    return [getattr(owner, name) for owner, name in PATCHABLE]


def _unpatch(before: list[Any]) -> None:
    for (owner, name), value in zip(PATCHABLE, before, strict=True):
        if getattr(owner, name) is not value:
            setattr(owner, name, value)


PARTS: dict[str, StatePart] = {
    "gradients enabled": StatePart(torch.is_grad_enabled, torch.set_grad_enabled),
    "default dtype": StatePart(torch.get_default_dtype, torch.set_default_dtype),
    "number of threads": StatePart(torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": StatePart(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    ),
    "anomaly detection": StatePart(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "matmul precision": StatePart(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "global module hooks": StatePart(_hooks, _remove_new_hooks),
    "patched functions": StatePart(_patched, _unpatch),
    "built-in functions": StatePart(
        lambda: dict(foreign_code.replaced), lambda before: setattr(foreign_code, "replaced", before)
    ),
    "working folder": StatePart(Path.cwd, os.chdir),
}


def snapshot() -> dict[str, Any]:
    """Read every part."""
    return {name: part.read() for name, part in PARTS.items()}


def restore(before: dict[str, Any]) -> tuple[str, ...]:
    """Put every part back; return the names of those that had changed."""
    changed = []
    for name, part in PARTS.items():
        if part.read() != before[name]:
            part.restore(before[name])
            changed.append(name)
    return tuple(changed)


def live_threads() -> set[threading.Thread]:
    """Return the threads that are alive."""
    return set(threading.enumerate())


def threads_left(before: set[threading.Thread]) -> tuple[str, ...]:
    """Return the names of the threads that are new since ``before`` and do not end soon."""
    if live_threads() - before:
        gc.collect()  # a DataLoader's iterator in a reference cycle ends its threads when it is collected
    for thread in live_threads() - before:
        thread.join(LINGER)
    return tuple(sorted(thread.name for thread in live_threads() - before))


def seed_everything(seed: int) -> None:
    """Seed the generators of torch, NumPy and Python, as loops draw from all three."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def generators_restored() -> Iterator[None]:
    """Restore the states of all generators at the end."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
