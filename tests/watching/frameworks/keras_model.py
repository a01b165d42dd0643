"""Keras on torch: a model that is compiled and fitted, with dropout and a validation."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras

from frameworks_data import report, test_set, train_set

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.layers.Dense(10, activation="tanh"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(3),
    ]
)
model.compile(optimizer=keras.optimizers.Adam(1e-2), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
inputs, labels = (tensor.numpy() for tensor in train_set().tensors)
held_out = tuple(tensor.numpy() for tensor in test_set().tensors)
seen = model.fit(inputs, labels, batch_size=8, epochs=2, validation_data=held_out, verbose=0)
report(model, [*seen.history["loss"], *seen.history["val_loss"]])
