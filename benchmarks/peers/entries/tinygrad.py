"""tinygrad: a step under TinyJit, as its MNIST example has it; batches are cut out of arrays before the step.

Its example cuts them out in the step, for which it goes through all images each time: with 60,000 the epoch takes
twice as long, and the first one a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("tinygrad",)
USED = "a step under TinyJit, in memory"


def start(task: Task) -> EpochFunction:
    """Make layers and optimizer; compile nothing yet."""
    import numpy as np
    from tinygrad import Context, Tensor, TinyJit, nn

    from ..task import CLASSES, HIDDEN, PIXELS

    settings = task.settings
    images, labels = task.floats(), task.labels.astype(np.int32)
    first, second = nn.Linear(PIXELS, HIDDEN), nn.Linear(HIDDEN, CLASSES)
    for layer, weight, bias in ((first, task.w1, task.b1), (second, task.w2, task.b2)):
        layer.weight.assign(Tensor(weight)).realize()
        layer.bias.assign(Tensor(bias)).realize()
    optimizer = nn.optim.SGD([first.weight, first.bias, second.weight, second.bias], lr=settings.lr)
    random = np.random.default_rng(settings.seed)

    def step(x, y):
        optimizer.zero_grad()
        loss = second(first(x).relu()).sparse_categorical_crossentropy(y).backward()
        return loss.realize(*optimizer.schedule_step())

    # What was jitted takes one shape alone: the smaller last batch has a function of its own.
    whole, last = TinyJit(step), TinyJit(step)

    def epoch() -> float:
        order, total = random.permutation(settings.images).astype(np.int32), 0.0
        with Context(TRAINING=1):
            for start in range(0, settings.images, settings.batch_size):
                positions = order[start : start + settings.batch_size]
                jitted = whole if len(positions) == settings.batch_size else last
                total += jitted(Tensor(images[positions]), Tensor(labels[positions])).item() * len(positions)
        return total / settings.images

    return epoch
