"""The global state that a test must leave as it found it: generators, threads, flags, hooks, environment."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as module_hooks

GLOBAL_HOOKS = [name for name in vars(module_hooks) if name.startswith("_global_") and name.endswith("_hooks")]


@dataclass(frozen=True)
class Part:
    """One part of the global state: how to read it as something comparable, and how to put it back."""

    read: Callable[[], Any]
    restore: Callable[[Any], object]


def _cuda_rng() -> tuple[bytes, ...]:
    states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return tuple(state.numpy().tobytes() for state in states)


def _set_cuda_rng(states: tuple[bytes, ...]) -> None:
    torch.cuda.set_rng_state_all([_tensor(state) for state in states])


def _tensor(state: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(state), dtype=torch.uint8)


def _set_environment(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _environment() -> dict[str, str]:
    """Return the variables but for those that pytest, torch and its compiler set for themselves."""
    of_others = {"PYTEST_CURRENT_TEST", "CUDA_MODULE_LOADING"}
    own = {name for name in os.environ if name in of_others or "TORCHINDUCTOR" in name}
    return {name: value for name, value in os.environ.items() if name not in own}


def _hooks() -> dict[str, list[int]]:
    return {name: list(getattr(module_hooks, name)) for name in GLOBAL_HOOKS}


def _remove_new_hooks(before: dict[str, list[int]]) -> None:
    for name, kept in before.items():
        hooks = getattr(module_hooks, name)
        for key in [key for key in hooks if key not in kept]:
            del hooks[key]


def _numpy_rng() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state(legacy=True)
    return (kind, np.asarray(keys).tobytes(), *rest)


def _set_numpy_rng(state: tuple[Any, ...]) -> None:
    kind, keys, *rest = state
    np.random.set_state((kind, np.frombuffer(keys, np.uint32), *rest))


PARTS = {
    "torch's generator": Part(
        lambda: torch.get_rng_state().numpy().tobytes(), lambda s: torch.set_rng_state(_tensor(s))
    ),
    "CUDA's generators": Part(_cuda_rng, _set_cuda_rng),
    "NumPy's generator": Part(_numpy_rng, _set_numpy_rng),
    "Python's generator": Part(random.getstate, random.setstate),
    "number of threads": Part(torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": Part(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "gradients enabled": Part(torch.is_grad_enabled, torch.set_grad_enabled),
    "anomaly detection": Part(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "default dtype": Part(torch.get_default_dtype, torch.set_default_dtype),
    "matmul precision": Part(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "cudnn.benchmark": Part(
        lambda: torch.backends.cudnn.benchmark, lambda on: setattr(torch.backends.cudnn, "benchmark", on)
    ),
    "global module hooks": Part(_hooks, _remove_new_hooks),
    "socket timeout": Part(socket.getdefaulttimeout, socket.setdefaulttimeout),
    "working folder": Part(Path.cwd, os.chdir),
    "environment": Part(_environment, _set_environment),
    "handler of Ctrl-C": Part(
        lambda: signal.getsignal(signal.SIGINT), lambda handler: signal.signal(signal.SIGINT, handler)
    ),
    "garbage collection": Part(gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    "threads alive": Part(
        lambda: {thread.name for thread in threading.enumerate() if not thread.daemon}, lambda _: None
    ),
}


def snapshot() -> dict[str, Any]:
    """Read every part."""
    return {name: part.read() for name, part in PARTS.items()}


def restore(before: dict[str, Any]) -> list[str]:
    """Put every part back; return the names of those that had changed."""
    changed = []
    for name, part in PARTS.items():
        # CUDA's generators come to life with its first use, which is no leak.
        started = name == "CUDA's generators" and not before[name]
        if not started and part.read() != before[name]:
            part.restore(before[name])
            changed.append(name)
    return changed
