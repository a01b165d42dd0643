"""fastai: a Learner with its own SGD, on batches in memory; without validation, and no progress bar is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.peers.entries import Epoch
    from benchmarks.peers.task import Task

NEEDS = ("fastai",)
USED = "Learner, in memory"


def start(task: Task) -> Epoch:
    """Make the learner."""
    import torch
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import SGD

    from benchmarks.peers.in_torch import Batches, mean_loss, model_of

    losses: list[torch.Tensor] = []

    class Losses(Callback):  # type: ignore[misc]  # it is optional, hence Any
        # The loss that fastai records is smoothed, which is no mean.
        def after_loss(self):
            losses.append(self.loss.detach())

    learn = Learner(
        DataLoaders(Batches(task), [], device=torch.device("cpu")),
        model_of(task),
        loss_func=torch.nn.CrossEntropyLoss(),
        opt_func=SGD,
        lr=task.settings.lr,
        cbs=Losses(),
    )

    def epoch() -> float:
        losses.clear()
        with learn.no_logging():
            learn.fit(1)
        return mean_loss(losses, task.settings)

    return epoch
