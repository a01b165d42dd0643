"""A loop that has ``.cuda()`` written out, on a machine without CUDA: it means the device of the case."""

from __future__ import annotations

import dis
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import CodeType
from typing import Any

import torch
from torch import nn

from mnist_loop.verification.binding.target import codes_of

LOADS = ("LOAD_METHOD", "LOAD_ATTR")  # of bytecode: an attribute
PLACES = (torch.Tensor, nn.Module)
NOTE = "CUDA is written out in {name}, and this machine has none: .cuda() means the CPU here"


def is_written_out(functions: Iterable[Any]) -> bool:
    """Return whether one of these functions moves something to CUDA where there is none."""
    if torch.cuda.is_available():
        return False
    return any(_moves(code) for function in functions for code in codes_of(function))


def _moves(code: CodeType) -> bool:
    """Return whether the code calls ``.cuda()``, or has the name of a CUDA device for more than to compare with it."""
    steps = list(dis.get_instructions(code))
    pairs = list(pairwise([None, *steps, None]))
    calls = any(
        step is not None and step.argval == "cuda" and step.opname in LOADS and getattr(before, "argval", 0) != "torch"
        for before, step in pairs
    )
    names = any(
        step is not None and step.opname == "LOAD_CONST" and _is_cuda(step.argval) and not _compares(after)
        for step, after in pairs
    )
    # Who asks whether CUDA is available names it only where it is.
    return calls or (names and "is_available" not in code.co_names)


def _compares(step: dis.Instruction | None) -> bool:
    return step is not None and step.opname == "COMPARE_OP"


@contextmanager
def cuda_means(device: object) -> Iterator[None]:
    """Have ``.cuda()`` and ``.to("cuda")`` of tensors and modules move to ``device`` within."""
    before = [(place, name, vars(place).get(name)) for place in PLACES for name in ("cuda", "to")]
    for place in PLACES:
        _redirect(place, device)
    try:
        yield
    finally:
        for place, name, own in before:
            if own is None:
                delattr(place, name)
            else:
                setattr(place, name, own)


def _redirect(place: type, device: object) -> None:
    to = getattr(place, "to")  # noqa: B009  # a class of two kinds

    def moved(self: Any, *args: Any, **kwargs: Any) -> Any:
        args = tuple(device if _is_cuda(arg) or _is_index(arg) else arg for arg in args)
        kwargs = {name: device if name == "device" and _is_cuda(value) else value for name, value in kwargs.items()}
        return to(self, *args, **kwargs)

    def cuda(self: Any, *_: object, **__: object) -> Any:
        return to(self, device)

    place.to, place.cuda = moved, cuda  # type: ignore[attr-defined]  # torch's methods


def _is_cuda(value: object) -> bool:
    return (isinstance(value, str) and value.partition(":")[0] == "cuda") or (
        isinstance(value, torch.device) and value.type == "cuda"
    )


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
