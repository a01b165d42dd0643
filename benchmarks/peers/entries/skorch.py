"""Skorch: NeuralNetClassifier, trained on by partial_fit; its iterator cuts batches in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("skorch",)
USED = "NeuralNetClassifier, in memory"


def start(task: Task) -> EpochFunction:
    """Make the net, with all that is for validation and printing off."""
    import torch
    from skorch import NeuralNetClassifier

    from ..in_torch import TaskBatches, task_model

    batches = TaskBatches(task)
    net = NeuralNetClassifier(
        task_model(task),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        lr=task.settings.lr,
        max_epochs=1,
        batch_size=task.settings.batch_size,
        iterator_train=lambda dataset, **options: batches,
        train_split=None,
        verbose=0,
    )
    net.initialize()

    def epoch() -> float:
        net.partial_fit(batches.images, batches.labels)
        return float(net.history[-1, "train_loss"])

    return epoch
