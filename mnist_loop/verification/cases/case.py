"""A case: the data, model and settings of one small training, as plain data."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

Variant = Literal["", "poisoned", "relabelled"]
Watch = Literal["", "graphs", "reads"]

IMAGE_SHAPE = (1, 28, 28)  # MNIST's, for the loops that flatten to 784 by hand
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """A small training. Two runs of a case get equal models, data and random numbers.

    Attributes:
        model: a name in `world.MODELS`, or "declared" for the model that the loop declares.
        samples: size of the training set.
        held_out: size of the validation set, and of the test set.
        batch_size: at least 1; it may exceed ``samples``.
        epochs: number of epochs.
        optimizer: a name in `world.OPTIMIZERS`.
        lr: learning rate.
        loss: "cross-entropy" of logits, "nll" of log-probabilities, "mse" of targets (N, 1), or "bce" of logits
            and one-hot labels.
        dtype: of the model and of the images.
        scale: standard deviation of the pixels.
        schedule: learning-rate schedule, a name in `world.SCHEDULES`.
        accumulate, clip: arguments for a loop that takes them.
        seed: of data, weights and random numbers.
        device: where the training runs.
        variant: "poisoned": with other test images; "relabelled": with other test labels.
        watch: "graphs": saved tensors are recorded; "reads": reads of tensors by Python are recorded.
        resume: the training is saved half-way and resumed with new objects.
        corrupt: a pixel of one training image is nan.
        patience: every held-out loss and accuracy follows a plan that is made for early stopping with this patience.
        begins_in_eval: the model is handed over in eval mode.
        mixed: whether mixed precision is on, for a loop that takes it; None for its default.
    """

    model: str = "plain"
    samples: int = 10
    held_out: int = 6
    batch_size: int = 4
    epochs: int = 2
    optimizer: str = "SGD"
    lr: float = 0.05
    loss: str = "cross-entropy"
    dtype: str = "float64"
    scale: float = 1.0
    schedule: str = "StepLR"
    accumulate: int = 1
    clip: float | None = None
    seed: int = 0
    device: str = "cpu"
    variant: Variant = ""
    watch: Watch = ""
    resume: bool = False
    corrupt: bool = False
    patience: int | None = None
    begins_in_eval: bool = False
    mixed: bool | None = None

    @property
    def batches(self) -> int:
        """Number of batches in an epoch, a partial last one included."""
        return math.ceil(self.samples / self.batch_size)

    def but(self, **changes: object) -> Case:
        """Return the case with some attributes changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]  # the names are checked at run time

    def __repr__(self) -> str:
        """Return code that makes the case, with what differs from the default."""
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"Case({', '.join(changed)})"
