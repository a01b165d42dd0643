"""The training loop: forward, loss, backward, step; train mode and eval mode.

This file is the lesson and the reference. It prints nothing and reads no options. It works with any
model, any loss that is a mean over the batch, any optimizer whose step needs no closure, and any loader
of ``(images, labels)`` pairs, on any device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Loader = Iterable[tuple[Tensor, Tensor]]
LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Evaluation:
    """Mean loss per image, and the share of images whose label was predicted (0 to 1)."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Epoch:
    """One line of a history: losses per image and test accuracy (0 to 1). ``epoch`` counts from 1."""

    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float


def train_one_epoch(
    model: nn.Module,
    loader: Loader,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
    on_batch: Callable[[int, Tensor], None] | None = None,
) -> float:
    """Train ``model`` once on each batch of ``loader``.

    Args:
        model: is on ``device``; where it has an ``input_shape``, each image is given that shape.
        loader: yields pairs of images (N, ...) and labels (N,).
        loss_fn: maps outputs and labels to a scalar, the mean loss over the batch.
        optimizer: holds the parameters of ``model``.
        device: where the batches go.
        on_batch: called after each step with the batch's number, from 0, and its loss, a scalar on
            ``device``. To read the loss there is to wait for the device.

    Returns:
        The mean training loss per image, that of each batch taken before the step it led to.

    Raises:
        ValueError: ``loader`` yields no batch.
    """
    model.train()
    total, count = zero(device), 0
    for batch, (images, labels) in enumerate(loader):
        images = shape_input(images, model)
        images, labels = to_device(images, device), to_device(labels, device)
        optimizer.zero_grad()
        outputs = model(images)
        loss = loss_fn(outputs, labels)
        loss.backward()
        optimizer.step()
        total.add_(loss.detach(), alpha=len(labels))
        count += len(labels)
        if on_batch is not None:
            on_batch(batch, loss.detach())
    return mean(total, count)


@torch.no_grad()
def evaluate(model: nn.Module, loader: Loader, loss_fn: LossFunction, device: torch.device | str) -> Evaluation:
    """Evaluate ``model`` on each batch of ``loader``, in eval mode and without gradients.

    Parameters, buffers, gradients, the mode of every submodule and the state of the random number
    generators are afterwards as they were. The arguments are those of `train_one_epoch`.

    Returns:
        Loss and accuracy per image, whatever the batch size and however small the last batch.

    Raises:
        ValueError: ``loader`` yields no batch.
    """
    total, correct, count = zero(device), zero(device), 0
    with _eval_mode(model), _same_randomness(device):
        for images, labels in loader:
            images = shape_input(images, model)
            images, labels = to_device(images, device), to_device(labels, device)
            outputs = model(images)
            total.add_(loss_fn(outputs, labels), alpha=len(labels))
            correct.add_((outputs.argmax(dim=1) == labels).sum())
            count += len(labels)
    return Evaluation(loss=mean(total, count), accuracy=mean(correct, count))


def fit(
    model: nn.Module,
    train_loader: Loader,
    test_loader: Loader,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
    epochs: int = 5,
    *,
    first_epoch: int = 1,
    on_batch: Callable[[int, int, Tensor], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    train_one_epoch: Callable[..., float] = train_one_epoch,
    evaluate: Callable[..., Evaluation] = evaluate,
) -> list[Epoch]:
    """Train and evaluate in turn, from ``first_epoch`` up to and with ``epochs``.

    Args:
        model: what is trained; it, the loss, the optimizer and the device are as in `train_one_epoch`.
        train_loader: what it is trained on.
        test_loader: what it is evaluated on.
        loss_fn: mean loss over a batch.
        optimizer: holds the parameters of ``model``.
        device: where the batches go.
        epochs: number of the last epoch.
        first_epoch: number of the first one; above 1 where training goes on from a checkpoint.
        on_batch: called after each step with the epoch's number, the batch's number and its loss.
        on_epoch: called after each evaluation with the line that it adds to the history.
        train_one_epoch: how an epoch is trained; an engine has its own way.
        evaluate: how the model is evaluated.

    Returns:
        The history, one line an epoch.
    """
    history = []
    for epoch in range(first_epoch, epochs + 1):
        report = None if on_batch is None else partial(on_batch, epoch)
        train_loss = train_one_epoch(model, train_loader, loss_fn, optimizer, device, report)
        test = evaluate(model, test_loader, loss_fn, device)
        history.append(Epoch(epoch, train_loss, test.loss, test.accuracy))
        if on_epoch is not None:
            on_epoch(history[-1])
    return history


def shape_input(images: Tensor, model: nn.Module) -> Tensor:
    """Give each image the ``input_shape`` of ``model``, pixels in order: N x 1 x 28 x 28 to N x 784 for the MLP.

    A model that names no ``input_shape`` takes the images as they are.
    """
    input_shape = getattr(model, "input_shape", images.shape[1:])
    return images.reshape(len(images), *input_shape)


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Move ``tensor`` to ``device``, where it is not there already."""
    # From pinned memory a CUDA copy need not wait: the kernels that read it are queued behind it. MPS
    # gives no such promise.
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")


def zero(device: torch.device | str) -> Tensor:
    """Return the beginning of a sum on ``device``."""
    # Sums stay on the device, so that no step waits for them; in float64, but on MPS, which has none.
    dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
    return torch.zeros((), dtype=dtype, device=device)


def mean(total: Tensor, count: int) -> float:
    """Divide a sum over images by their number.

    Raises:
        ValueError: there were none.
    """
    if count == 0:
        raise ValueError(
            "the loader yielded no batch: is the data set empty, or smaller than one batch with drop_last?"
        )
    return total.item() / count


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _same_randomness(device: torch.device | str) -> AbstractContextManager[None]:
    # Starting a DataLoader draws from the global generator: evaluating must not change the training to come.
    device = torch.device(device)
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
