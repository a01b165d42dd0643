"""Keras as in its first example: Sequential, compile, fit on arrays. The backend is chosen before the import."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .entries import EpochFunction
    from .task import Task


def start_on(backend: str, task: Task) -> EpochFunction:
    """Build and compile the model on ``backend``."""
    os.environ["KERAS_BACKEND"] = backend
    import keras

    from .task import CLASSES, HIDDEN, PIXELS

    settings = task.settings
    keras.utils.set_random_seed(settings.seed)
    model = keras.Sequential(
        [keras.Input((PIXELS,)), keras.layers.Dense(HIDDEN, activation="relu"), keras.layers.Dense(CLASSES)]
    )
    model.set_weights([task.w1.T, task.b1, task.w2.T, task.b2])
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate=settings.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images = task.floats()

    def epoch() -> float:
        history = model.fit(images, task.labels, batch_size=settings.batch_size, epochs=1, verbose=0)
        return float(history.history["loss"][0])

    return epoch
