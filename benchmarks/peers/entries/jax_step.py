"""JAX: one jitted step, called for each batch; the images lie on the device and batches are cut out in the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("jax",)
USED = "a jitted step, in memory"


def start(task: Task) -> EpochFunction:
    """Put the data on the device; compile nothing yet."""
    from functools import partial

    import jax
    import jax.numpy as jnp
    import numpy as np

    from ..in_jax import parameters, sgd

    settings = task.settings
    images, labels = jnp.asarray(task.floats()), jnp.asarray(task.labels.astype(np.int32))
    params, random = parameters(task), np.random.default_rng(settings.seed)

    @partial(jax.jit, donate_argnums=0)
    def step(params, images, labels, positions):
        return sgd(params, images[positions], labels[positions], settings.lr)

    def epoch() -> float:
        nonlocal params
        order = random.permutation(settings.images).astype(np.int32)
        losses, sizes = [], []
        for first in range(0, settings.images, settings.batch_size):
            positions = order[first : first + settings.batch_size]
            params, loss = step(params, images, labels, positions)
            losses.append(loss)
            sizes.append(len(positions))
        return float(np.average(np.asarray(jnp.stack(losses)), weights=sizes))

    return epoch
