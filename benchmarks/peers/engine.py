"""Epochs of an engine of `mnist_loop.engines`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnist_loop.engines import contract

if TYPE_CHECKING:
    from .task import Task


class EngineEpoch:
    """Epochs of one engine, on the CPU, as ``mnist-loop train --engine NAME`` trains them.

    Args:
        name: of the engine.
        task: what it trains.
    """

    def __init__(self, name: str, task: Task) -> None:
        import torch

        from mnist_loop.data import load_data
        from mnist_loop.model import MLP

        settings = task.settings
        data = load_data(settings.where, download=False)
        data.train.data = data.train.data[: settings.images]
        data.train.targets = data.train.targets[: settings.images]
        self.engine = contract.load(name)
        torch.manual_seed(settings.seed)  # of the initial weights, and then of the order
        self.model = MLP()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=settings.lr)
        self.loss_fn = torch.nn.CrossEntropyLoss()
        self.loader, _ = self.engine.make_loaders(data, settings.batch_size)

    def prepare(self) -> str:
        """Do what the engine does once, before training; return what it says of that."""
        return self.engine.prepare(self.model, self.loader, self.loss_fn, self.optimizer, "cpu")

    def __call__(self) -> float:
        return self.engine.train_one_epoch(self.model, self.loader, self.loss_fn, self.optimizer, "cpu")
