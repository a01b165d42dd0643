"""Lightning's Trainer as in its first example: a LightningModule around the model, and fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from .in_torch import task_model

if TYPE_CHECKING:
    from torch import Tensor

    from .task import Task


def module_of(task: Task, on_loss: Callable[[Any, Tensor], object]) -> Any:
    """Return the LightningModule; ``on_loss`` is called with it and the loss of each batch."""
    import lightning

    class Lesson(lightning.LightningModule):  # type: ignore[misc]  # it is optional, hence Any
        def __init__(self):
            super().__init__()
            self.model = task_model(task)
            self.loss_fn = torch.nn.CrossEntropyLoss()

        def training_step(self, batch, batch_idx):
            images, labels = batch
            loss = self.loss_fn(self.model(images.flatten(1)), labels)
            on_loss(self, loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=task.settings.lr)

    return Lesson()


def fit_once_more(trainer: Any, module: Any, batches: Any) -> None:
    """Train one epoch more than the trainer has done."""
    trainer.fit_loop.max_epochs = trainer.current_epoch + 1
    trainer.fit(module, batches)
