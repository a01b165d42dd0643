"""Shared by the entries on JAX: the parameters, and one step of SGD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from .task import Task


def parameters(task: Task) -> dict[str, Any]:
    """Return the initial weights of ``task``."""
    return {"w1": jnp.array(task.w1.T), "b1": jnp.array(task.b1), "w2": jnp.array(task.w2.T), "b2": jnp.array(task.b2)}


def jax_loss(params: dict[str, Any], images: Any, labels: Any) -> Any:
    """Return the mean cross entropy of a batch."""
    hidden = jax.nn.relu(images @ params["w1"] + params["b1"])
    log_p = jax.nn.log_softmax(hidden @ params["w2"] + params["b2"])
    return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()


def sgd(params: dict[str, Any], images: Any, labels: Any, lr: float) -> tuple[dict[str, Any], Any]:
    """Return the parameters after one step, and the loss before it."""
    loss, gradients = jax.value_and_grad(jax_loss)(params, images, labels)
    return jax.tree.map(lambda weight, gradient: weight - lr * gradient, params, gradients), loss
