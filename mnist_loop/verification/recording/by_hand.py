"""The oracle for the plain network: the chain rule in NumPy, without autograd."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]


@np.errstate(all="ignore")  # in some cases the numbers are not finite, and are not judged then
def gradients(
    state: Mapping[str, Tensor], images: Tensor, output_gradient: Tensor, log_probs: bool
) -> dict[str, Tensor]:
    """Return the gradient of each parameter of Linear, ReLU, Linear, given the gradient of the outputs.

    Args:
        state: the parameters of a "plain" `world.Net`, by name.
        images: (N, ...), flattened here.
        output_gradient: (N, outputs).
        log_probs: a log-softmax follows the last layer.
    """
    weights = {name: _array(value) for name, value in state.items()}
    x, upstream = _array(images).reshape(len(images), -1), _array(output_gradient)
    hidden = x @ weights["hidden.0.weight"].T + weights["hidden.0.bias"]
    active = np.maximum(hidden, 0)
    if log_probs:
        logits = active @ weights["head.weight"].T + weights["head.bias"]
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        upstream = upstream - shifted / shifted.sum(axis=1, keepdims=True) * upstream.sum(axis=1, keepdims=True)
    d_hidden = (upstream @ weights["head.weight"]) * (hidden > 0)
    found = {
        "hidden.0.weight": d_hidden.T @ x,
        "hidden.0.bias": d_hidden.sum(axis=0),
        "head.weight": upstream.T @ active,
        "head.bias": upstream.sum(axis=0),
    }
    return {name: torch.from_numpy(value) for name, value in found.items()}


@np.errstate(all="ignore")
def cross_entropy_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the mean cross-entropy of logits (N, classes): softmax minus one-hot, over N."""
    z = _array(logits)
    shifted = np.exp(z - z.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    probabilities[np.arange(len(z)), labels.cpu().numpy()] -= 1
    return torch.from_numpy(probabilities / len(z))


def _array(tensor: Tensor) -> Array:
    return tensor.detach().double().cpu().numpy()
