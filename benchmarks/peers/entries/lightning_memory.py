"""Lightning's Trainer with batches in memory, barebones: all that its docs say to cost speed is off, logging too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("lightning",)
USED = "Trainer(barebones=True), in memory"


def start(task: Task) -> EpochFunction:
    """Make trainer and module."""
    import lightning
    import torch

    from ..in_lightning import fit_once_more, module_of
    from ..in_torch import TaskBatches, mean_of_batches

    losses: list[torch.Tensor] = []
    batches = TaskBatches(task)
    module = module_of(task, lambda module, loss: losses.append(loss.detach()))
    trainer = lightning.Trainer(max_epochs=0, accelerator="cpu", devices=1, barebones=True)

    def epoch() -> float:
        losses.clear()
        fit_once_more(trainer, module, batches)
        return mean_of_batches(losses, task.settings)

    return epoch
