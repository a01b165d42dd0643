"""Keras 3 on its torch backend: the model as a layer, the loss as its own, and an optimizer of Keras."""

from __future__ import annotations

import os
from contextlib import contextmanager

import torch

from tests.loops.correct.frameworks.quiet import quiet
from tests.loops.correct.registry import correct


@contextmanager
def keras_on_torch(dtype):
    """Import Keras with torch as its backend, and let it compute in ``dtype``."""
    os.environ.setdefault("KERAS_BACKEND", "torch")  # read at the first import, and never again
    with quiet():
        import keras

        assert keras.backend.backend() == "torch", f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=torch"
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(str(dtype).removeprefix("torch."))
        try:
            yield keras
        finally:
            keras.config.set_dtype_policy(policy)


@correct(needs="keras", own_optimizer=True)
def fit(model, train_loader, val_loader, loss_fn, lr, epochs):
    with keras_on_torch(next(model.parameters()).dtype) as keras, torch.device("cpu"):

        class Wrapped(keras.Model):
            def __init__(self):
                super().__init__()
                self.layer = keras.layers.TorchModuleWrapper(model)

            def call(self, inputs, training=False):
                return self.layer(inputs, training=training)

            def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
                return loss_fn(y_pred, y)

        wrapped = Wrapped()
        wrapped.compile(optimizer=keras.optimizers.SGD(learning_rate=lr))
        history = wrapped.fit(train_loader, validation_data=val_loader, epochs=epochs, verbose=0).history
        return {"train_loss": history["loss"], "val_loss": history["val_loss"]}
