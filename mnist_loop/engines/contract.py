"""What an engine is: four functions, so that each engine is a module that reads from top to bottom."""

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
    """An engine cannot train this model with this loss and optimizer here; the message says why, and what can."""


def unsuitable(engine: str, why: str) -> Unsuitable:
    """Return the error of ``engine``: why it cannot, and which engines can."""
    return Unsuitable(f"engine {engine}: {why}; the engines resident and reference train it")


class SizedLoader(Protocol):
    """Batches of images (N, ...) and labels (N,), over and over."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def __len__(self) -> int: ...


class Engine(Protocol):
    """One way to run the loop. Same seed, same data, same batches, and the same parameters in the end.

    How nearly the same: `resident` to the bit, on the CPU; the others to what rounding explains.

    Attributes:
        AT_ONCE: steps that are made together of batches that come one by one.
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
        """Do what must be done once, before training; parameters, state and random numbers stay as they are.

        Returns:
            A sentence for the user on what was prepared; empty where there is nothing to say.

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
    """Return the engine of that name.

    Raises:
        UserError: there is none.
    """
    if name not in NAMES:
        raise UserError(f"engine {name!r}: not known, expected {', '.join(NAMES)}")
    return cast("Engine", import_module(f"mnist_loop.engines.{name}"))


def hooked(model: nn.Module, optimizer: Optimizer) -> str | None:
    """Name something whose hooks an engine that runs neither as written would not call; None where there is none."""
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
