"""Accelerate: a loop of one's own, on a model and an optimizer that were prepared; batches in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.peers.entries import Epoch
    from benchmarks.peers.task import Task

NEEDS = ("accelerate",)
USED = "Accelerator, in memory"


def start(task: Task) -> Epoch:
    """Prepare model and optimizer."""
    import torch
    from accelerate import Accelerator

    from benchmarks.peers.in_torch import Batches, mean_loss, model_of

    accelerator = Accelerator(cpu=True)
    model = model_of(task)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=task.settings.lr))
    loss_fn, batches = torch.nn.CrossEntropyLoss(), Batches(task)

    def epoch() -> float:
        model.train()
        losses = []
        for images, labels in batches:
            optimizer.zero_grad()
            loss = loss_fn(model(images), labels)
            accelerator.backward(loss)
            optimizer.step()
            losses.append(loss.detach())
        return mean_loss(losses, task.settings)

    return epoch
