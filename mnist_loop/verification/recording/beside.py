"""What a loop has beside its model when it computes a loss: the values of its variables, and the random numbers."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnist_loop.support.authored import is_authored


@dataclass(frozen=True, eq=False)
class Generators:
    """The states of the generators that loops draw from on the CPU."""

    torch: Tensor
    numpy: Any
    python: Any

    @classmethod
    def read(cls) -> Generators:
        """Return the present states."""
        return cls(torch.get_rng_state(), np.random.get_state(), random.getstate())

    def set(self) -> None:
        """Make the states the present ones."""
        torch.set_rng_state(self.torch)
        np.random.set_state(self.numpy)
        random.setstate(self.python)

    def are(self, other: Generators) -> bool:
        """Return whether the states are the same."""
        numpy = all(np.array_equal(one, two) for one, two in zip(self.numpy, other.numpy, strict=True))
        return torch.equal(self.torch, other.torch) and numpy and self.python == other.python


def variables(names: Iterable[str], frame: FrameType | None, last: CodeType) -> dict[str, Any]:
    """Return the values that the author's code has under these names, as far as it has them.

    Looked at are the local variables of each running function, from the innermost one outwards, and the attributes of
    its ``self``; then the globals of these functions.

    Args:
        names: of the values.
        frame: the innermost one.
        last: the code of the function at which to stop.
    """
    frames = [one for one in _outwards(frame, last) if is_authored(one.f_code.co_filename)]
    found: dict[str, Any] = {}
    for name in names:
        for one in frames:
            local = one.f_locals
            if name in local:
                found[name] = local[name]
            elif hasattr(local.get("self"), name):
                found[name] = getattr(local["self"], name)
            else:
                continue
            break
        else:
            for one in frames[::-1]:
                if name in one.f_globals:
                    found[name] = one.f_globals[name]
    return found


def _outwards(frame: FrameType | None, last: CodeType) -> Iterator[FrameType]:
    while frame is not None and frame.f_code is not last:
        yield frame
        frame = frame.f_back


@dataclass(frozen=True)
class NotCopied:
    """Stands for a value that cannot be copied.

    Attributes:
        why: the error.
    """

    why: str


def copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy values as `in_float64` does, and note which cannot be."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        try:
            found[name] = in_float64(value)
        except Exception as error:  # noqa: BLE001  # whatever a stranger's object raises
            found[name] = NotCopied(f"{type(error).__name__}: {error}")
    return found


def in_float64(value: Any) -> Any:
    """Copy a value: modules, in the modes that they are in, and tensors of decimal numbers become float64."""
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).double()
    if isinstance(value, Tensor):
        alone = value.detach().clone()
        return alone.double() if alone.is_floating_point() else alone
    if type(value) in (list, tuple):
        return type(value)(map(in_float64, value))
    if type(value) is dict:
        return {key: in_float64(one) for key, one in value.items()}
    return value
