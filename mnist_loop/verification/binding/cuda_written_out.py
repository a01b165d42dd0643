"""A loop that has ``.cuda()`` written out, on a machine without CUDA: it means the device of the case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mnist_loop.verification.binding.target import codes_of

PLACES = (torch.Tensor, nn.Module)
NOTE = "CUDA is written out in {name}, and this machine has none: .cuda() means the CPU here"


def is_written_out(functions: Iterable[Any]) -> bool:
    """Return whether one of these functions names CUDA where there is none."""
    if torch.cuda.is_available():
        return False
    codes = [code for function in functions for code in codes_of(function)]
    return any("cuda" in code.co_names or any(map(_is_cuda, code.co_consts)) for code in codes)


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
