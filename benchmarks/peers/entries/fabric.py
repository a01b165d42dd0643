"""Lightning Fabric: a loop of one's own, on a model and an optimizer that Fabric has set up; batches in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("lightning",)
USED = "Fabric, in memory"


def start(task: Task) -> EpochFunction:
    """Set up model and optimizer."""
    import torch
    from lightning.fabric import Fabric

    from ..in_torch import TaskBatches, mean_of_batches, task_model

    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    model = task_model(task)
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=task.settings.lr))
    loss_fn, batches = torch.nn.CrossEntropyLoss(), TaskBatches(task)

    def epoch() -> float:
        model.train()
        losses = []
        for images, labels in batches:
            optimizer.zero_grad()
            loss = loss_fn(model(images), labels)
            fabric.backward(loss)
            optimizer.step()
            losses.append(loss.detach())
        return mean_of_batches(losses, task.settings)

    return epoch
