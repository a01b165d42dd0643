"""Accelerate: a loop of one's own, on a model and an optimizer that were prepared; batches in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("accelerate",)
USED = "Accelerator, in memory"


def start(task: Task) -> EpochFunction:
    """Prepare model and optimizer."""
    import torch
    from accelerate import Accelerator

    from ..in_torch import TaskBatches, mean_of_batches, task_model

    accelerator = Accelerator(cpu=True)
    model = task_model(task)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=task.settings.lr))
    loss_fn, batches = torch.nn.CrossEntropyLoss(), TaskBatches(task)

    def epoch() -> float:
        model.train()
        losses = []
        for images, labels in batches:
            optimizer.zero_grad()
            loss = loss_fn(model(images), labels)
            accelerator.backward(loss)
            optimizer.step()
            losses.append(loss.detach())
        return mean_of_batches(losses, task.settings)

    return epoch
