"""Training by real frameworks: thin adapters that hand them the model, the data, the loss and the optimizer.

Each imports its framework when it runs, so that the list of loops can be read where it is not installed.
"""

from __future__ import annotations

from tests.loops.correct.frameworks import (
    accelerate,
    compiled,
    composer,
    fabric,
    fastai,
    ignite,
    keras,
    lightning,
    skorch,
    torchtune,
    transformers,
)

__all__ = [
    "accelerate",
    "compiled",
    "composer",
    "fabric",
    "fastai",
    "ignite",
    "keras",
    "lightning",
    "skorch",
    "torchtune",
    "transformers",
]
