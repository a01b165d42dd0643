"""What an engine is: a module with four functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnist_loop.data import Data
from mnist_loop.engines import NAMES
from mnist_loop.errors import UserError
from mnist_loop.loop import Evaluation, Loader, LossFunction


class Unsuitable(UserError):
    """The engine cannot train this model with this loss and optimizer here. The message says why, and which can."""


def unsuitable(engine: str, why: str) -> Unsuitable:
    """Return the error of ``engine``, which says why it cannot train this, and which engines can."""
    return Unsuitable(f"engine {engine}: {why}; the engines resident and reference train it")


class SizedLoader(Protocol):
    """Batches of images (N, ...) and labels (N,). It can be iterated over repeatedly."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def __len__(self) -> int: ...


class Engine(Protocol):
    """One way to run the loop. With the same seed and data it uses the same batches and ends with the same parameters.

    `resident` gives bitwise the same parameters on the CPU; the others give the same up to rounding.

    Attributes:
        AT_ONCE: steps that are made together when a loader yields its batches one by one.
    """

    AT_ONCE: int

    def make_loaders(
        self,
        data: Data,
        batch_size: int = 64,
        *,
        generator: torch.Generator | None = None,
        workers: int = 0,
        device: torch.device | str = "cpu",
    ) -> tuple[SizedLoader, SizedLoader]:
        """Return the loaders of train and test, as `mnist_loop.data.make_loaders` does."""
        ...

    def prepare(
        self,
        model: nn.Module,
        loader: SizedLoader,
        loss_fn: LossFunction,
        optimizer: Optimizer,
        device: torch.device | str,
    ) -> str:
        """Prepare once, before training. Parameters, state and random numbers do not change.

        Returns:
            A sentence for the user on what was prepared, or "".

        Raises:
            Unsuitable: the engine cannot train this.
        """
        ...

    def train_one_epoch(
        self,
        model: nn.Module,
        loader: Loader,
        loss_fn: LossFunction,
        optimizer: Optimizer,
        device: torch.device | str,
        on_batch: Callable[[int, Tensor], None] | None = None,
    ) -> float:
        """Train as `mnist_loop.loop.train_one_epoch` does.

        Raises:
            Unsuitable: the engine cannot train this.
        """
        ...

    def evaluate(
        self, model: nn.Module, loader: Loader, loss_fn: LossFunction, device: torch.device | str
    ) -> Evaluation:
        """Evaluate as `mnist_loop.loop.evaluate` does."""
        ...


def load(name: str) -> Engine:
    """Return the engine with this name.

    Raises:
        UserError: there is none.
    """
    if name not in NAMES:
        raise UserError(f"engine {name!r}: not known, expected {', '.join(NAMES)}")
    return cast("Engine", import_module(f"mnist_loop.engines.{name}"))


def hooked(model: nn.Module, optimizer: Optimizer) -> str | None:
    """Return the first object with hooks, in words, or None. An engine with its own steps would not call the hooks."""
    for name, module in model.named_modules():
        if any(
            getattr(module, f"_{kind}", None)
            for kind in ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
        ):
            return f"the module {name or type(module).__name__}"
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return f"the parameter {name}"
    kinds = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    return "the optimizer" if any(getattr(optimizer, kind, None) for kind in kinds) else None
