"""Ignite: an Engine around a step of one's own, as its first example has it; batches in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("pytorch-ignite",)
USED = "Engine, in memory"


def start(task: Task) -> EpochFunction:
    """Make the engine."""
    import torch
    from ignite.engine import Engine

    from ..in_torch import TaskBatches, mean_of_batches, task_model

    model = task_model(task)
    optimizer = torch.optim.SGD(model.parameters(), lr=task.settings.lr)
    loss_fn, batches = torch.nn.CrossEntropyLoss(), TaskBatches(task)
    losses: list[torch.Tensor] = []

    def train_step(engine, batch):
        model.train()
        optimizer.zero_grad()
        images, labels = batch
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    trainer = Engine(train_step)

    def epoch() -> float:
        losses.clear()
        trainer.run(batches, max_epochs=1)
        return mean_of_batches(losses, task.settings)

    return epoch
