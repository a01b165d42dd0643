"""Reads what a loop returns: the numbers in it, and the state of a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mnist_loop.verification.recording.events import Returned, Tensors

DEEPEST = 6  # levels of containers that are read
MOST = 4096  # numbers that are kept


def read_returned(returned: object, yielded: list[object]) -> Returned:
    """Read what a call returned and, of a generator, yielded; leave out what is neither a number nor a state."""
    result = Returned(kind=type(returned).__name__)
    for path, leaf in _leaves(returned, "", DEEPEST):
        if len(result.numbers) < MOST:
            result.numbers[path or "the result"] = leaf
    for number, value in enumerate(yielded):
        for path, leaf in _leaves(value, f"yielded[{number}]", DEEPEST):
            if len(result.numbers) < MOST:
                result.numbers[path] = leaf
    result.state = _state(returned)
    return result


def _leaves(value: object, path: str, depth: int) -> Iterator[tuple[str, float]]:
    if isinstance(value, Tensor):
        if value.numel() == 1 and not value.is_complex():
            yield path, float(value.detach())
    elif isinstance(value, (bool, str, bytes, nn.Module)) or value is None or depth == 0:
        return
    elif isinstance(value, (int, float)):
        yield path, float(value)
    elif hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "size", 0) == 1:
        yield from _leaves(_item(value), path, depth)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{path}[{key!r}]", depth - 1)
    elif isinstance(value, (list, tuple)):
        names = getattr(value, "_fields", None)
        for number, part in enumerate(value):
            yield from _leaves(part, f"{path}.{names[number]}" if names else f"{path}[{number}]", depth - 1)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name), f"{path}.{field.name}", depth - 1)


def _item(value: Any) -> float:
    number = value.item()
    return float(number) if isinstance(number, (int, float)) else math.nan


def _state(returned: object) -> Tensors | None:
    """Return the parameters and buffers of the first model or state dict in what was returned."""
    candidates = [returned]
    if isinstance(returned, Mapping):
        candidates += list(returned.values())
    elif isinstance(returned, (list, tuple)):
        candidates += list(returned)
    for candidate in candidates:
        if isinstance(candidate, nn.Module):
            return _plain({**dict(candidate.named_parameters()), **dict(candidate.named_buffers())})
        if isinstance(candidate, Mapping) and candidate and all(isinstance(v, Tensor) for v in candidate.values()):
            return _plain(dict(candidate))
    return None


def _plain(state: Mapping[str, Tensor]) -> Tensors:
    # AveragedModel and DistributedDataParallel prefix the model's names with "module.".
    return {
        name.removeprefix("module."): torch.as_tensor(value).detach().clone()
        for name, value in state.items()
        if name != "n_averaged"
    }
