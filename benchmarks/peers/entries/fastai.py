"""fastai: a Learner with its own SGD, on batches in memory; without validation, and no progress bar is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("fastai",)
USED = "Learner, in memory"


def start(task: Task) -> EpochFunction:
    """Make the learner."""
    import torch
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import SGD

    from ..in_torch import TaskBatches, mean_of_batches, task_model

    losses: list[torch.Tensor] = []

    class Losses(Callback):  # type: ignore[misc]  # it is optional, hence Any
        # The loss that fastai records is smoothed, which is no mean.
        def after_loss(self):
            losses.append(self.loss.detach())

    learn = Learner(
        DataLoaders(TaskBatches(task), [], device=torch.device("cpu")),
        task_model(task),
        loss_func=torch.nn.CrossEntropyLoss(),
        opt_func=SGD,
        lr=task.settings.lr,
        cbs=Losses(),
    )

    def epoch() -> float:
        losses.clear()
        with learn.no_logging():
            learn.fit(1)
        return mean_of_batches(losses, task.settings)

    return epoch
