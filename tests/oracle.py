"""The oracle: what training the lesson's MLP must do, in float64, by hand, without autograd.

It shares no code with what it judges: NumPy, the chain rule, and the update rule of SGD.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[np.float64]
Parameters = dict[str, Array]

# A float64 result of the longest chain here (four products and a softmax over at most 64 terms each) carries
# a relative error below 5 * 64 * 2**-53 = 4e-14. Two such results differ by twice that.
ROUNDING = 1e-13
# Over a whole training each step adds as much, at most 100 steps here, and the learning rates are so small that a
# step shrinks earlier errors or lets them grow by little.
TRAINING_ROUNDING = 100 * ROUNDING


def parameters_of(model: nn.Module) -> Parameters:
    """Copy the parameters of an MLP to NumPy, by name."""
    return {name: parameter.detach().double().cpu().numpy().copy() for name, parameter in model.named_parameters()}


def loss_and_gradients(parameters: Mapping[str, Array], images: Tensor, labels: Tensor) -> tuple[float, Parameters]:
    """Return the mean cross-entropy of a batch and its gradient with respect to each parameter."""
    x = images.double().cpu().numpy().reshape(len(images), -1)
    y = labels.cpu().numpy()
    hidden = x @ parameters["fc1.weight"].T + parameters["fc1.bias"]
    active = np.maximum(hidden, 0)
    logits = active @ parameters["fc2.weight"].T + parameters["fc2.bias"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -log_probabilities[np.arange(len(y)), y].mean()
    d_logits = np.exp(log_probabilities)
    d_logits[np.arange(len(y)), y] -= 1
    d_logits /= len(y)
    d_hidden = (d_logits @ parameters["fc2.weight"]) * (hidden > 0)
    gradients = {
        "fc1.weight": d_hidden.T @ x,
        "fc1.bias": d_hidden.sum(axis=0),
        "fc2.weight": d_logits.T @ active,
        "fc2.bias": d_logits.sum(axis=0),
    }
    return float(loss), gradients


def sgd(
    parameters: Mapping[str, Array],
    batches: Iterable[tuple[Tensor, Tensor]],
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> tuple[Parameters, list[float]]:
    """Train by SGD, as the documentation of `torch.optim.SGD` defines it; return the parameters and each loss."""
    parameters = dict(parameters)
    velocity: Parameters = {}
    losses = []
    for images, labels in batches:
        loss, gradients = loss_and_gradients(parameters, images, labels)
        losses.append(loss)
        for name, gradient in gradients.items():
            gradient = gradient + weight_decay * parameters[name]
            velocity[name] = gradient + momentum * velocity[name] if name in velocity else gradient
            parameters[name] = parameters[name] - lr * velocity[name]
    return parameters, losses


def assert_equal(found: Tensor | Array, expected: Tensor | Array, what: str, rounding: float = ROUNDING) -> None:
    """Assert that ``found`` is ``expected`` up to rounding.

    The error is measured against the norm of what was expected plus one, the size of the terms that cancel in
    "probability minus one" once a prediction is nearly certain.
    """
    found, expected = (torch.as_tensor(value).double().cpu() for value in (found, expected))
    assert found.shape == expected.shape, (
        f"{what} has shape {tuple(found.shape)}, but should have {tuple(expected.shape)}"
    )
    error = float((found - expected).norm()) / (1 + float(expected.norm()))
    assert error <= rounding, (
        f"{what} differs from what it should be by {error:.1e}, more than rounding explains ({rounding:.0e})"
    )
