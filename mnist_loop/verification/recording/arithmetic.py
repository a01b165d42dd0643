"""Arithmetic of gradients, which are tensors by the names of their parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mnist_loop.verification.recording.events import Tensors

FLOOR = 1e-12  # a gradient below it is the rounding error of "probability minus one"


def sum_of(tensors: list[Tensor]) -> Tensor:
    """Add tensors of one shape, in float64 on the CPU."""
    return torch.stack([tensor.double().cpu() for tensor in tensors]).sum(dim=0)


def add(*gradients: Tensors) -> Tensors:
    """Add gradients by name."""
    total: Tensors = {}
    for part in gradients:
        for name, value in part.items():
            total[name] = total[name] + value if name in total else value
    return total


def scale(gradients: Tensors, factor: float) -> Tensors:
    """Multiply each gradient by ``factor``."""
    return {name: value * factor for name, value in gradients.items()}


def norm(gradients: Tensors) -> float:
    """Return the L2 norm of all gradients together."""
    return float(torch.sqrt(torch.stack([value.double().square().sum() for value in gradients.values()]).sum()))


def clipped(gradients: Tensors, longest: float) -> Tensors:
    """Scale the gradients down to the norm ``longest`` as `torch.nn.utils.clip_grad_norm_` does."""
    return scale(gradients, min(1.0, longest / (norm(gradients) + 1e-6)))


def distance(found: Tensors, expected: Tensors, floor: float = FLOOR) -> float:
    """Return the norm of the difference, less ``floor``, divided by the larger of the two norms.

    It is 0 if both norms are 0 or ``expected`` is not finite, and inf if ``found`` alone is not finite.
    """
    names = found.keys() & expected.keys()
    if not names:
        return 0.0
    difference = {name: found[name].double().cpu() - expected[name].double().cpu() for name in names}
    size = max(norm({name: found[name] for name in names}), norm({name: expected[name] for name in names}))
    apart = norm(difference)
    if not math.isfinite(norm({name: expected[name] for name in names})):
        return 0.0  # a right training diverges here too
    if not math.isfinite(apart):
        return math.inf
    return max(0.0, apart - floor) / size if size else 0.0
