"""JAX: a whole epoch as one jitted function, its steps in a lax.scan, the smaller last batch after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("jax",)
USED = "a whole epoch in one lax.scan, in memory"


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
    batches, rest = divmod(settings.images, settings.batch_size)

    @partial(jax.jit, donate_argnums=0)
    def train(params, images, labels, order):
        def step(params, positions):
            return sgd(params, images[positions], labels[positions], settings.lr)

        whole = order[: batches * settings.batch_size].reshape(batches, settings.batch_size)
        params, losses = jax.lax.scan(step, params, whole)
        total = losses.sum() * settings.batch_size
        if rest:
            params, loss = step(params, order[-rest:])
            total += loss * rest
        return params, total / settings.images

    def epoch() -> float:
        nonlocal params
        order = random.permutation(settings.images).astype(np.int32)
        params, loss = train(params, images, labels, order)
        jax.block_until_ready(params)
        return float(loss)

    return epoch
