"""The lesson's MLP with its backward pass written out by hand: the chain rule, in twelve calls a step.

Measured: 246k images/s at batch size 64, 11.1 times as fast as `reference` (AMD EPYC, 2 threads, torch 2.15.0, 20
epochs; docs/engines.md).

No graph is recorded and no gradient is stored: the product that is the gradient of a weight is added to the weight
while it is computed. The data are resident. This engine is for reading, and for speed without a compiler.

With x the images, h = relu(x W1' + b1) and p = softmax(h W2' + b2), the mean loss L over n images has

    dL/dz2 = (p - onehot(labels)) / n          dL/dW2 = dz2' h     dL/db2 = sum of dz2 over the images
    dL/dz1 = (dz2 W2) where h > 0, else 0      dL/dW1 = dz1' x     dL/db1 = sum of dz1 over the images
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from mnist_loop.engines.contract import SizedLoader
from mnist_loop.engines.lesson import check
from mnist_loop.engines.resident import make_loaders
from mnist_loop.loop import Loader, LossFunction, evaluate, mean, shape_input, to_device, zero
from mnist_loop.model import MLP

__all__ = ["evaluate", "make_loaders", "prepare", "train_one_epoch"]

AT_ONCE = 1

NAME = "handwritten"


def prepare(
    model: nn.Module,
    loader: SizedLoader,  # noqa: ARG001  # the contract's arguments
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,  # noqa: ARG001
) -> str:
    """Check that model, loss and optimizer are the lesson's."""
    check(NAME, model, loss_fn, optimizer)
    return ""


@torch.no_grad()
def train_one_epoch(
    model: nn.Module,
    loader: Loader,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
    on_batch: Callable[[int, Tensor], None] | None = None,
) -> float:
    """Train as `mnist_loop.loop.train_one_epoch` does; the parameters are left without gradients."""
    check(NAME, model, loss_fn, optimizer)
    assert isinstance(model, MLP)
    model.train()
    optimizer.zero_grad()
    w1, b1, w2, b2 = model.fc1.weight, model.fc1.bias, model.fc2.weight, model.fc2.bias
    total, count = zero(device), 0
    kept = _Buffers(0, w1, w2)
    for batch, (images, labels) in enumerate(loader):
        x, labels = to_device(shape_input(images, model), device), to_device(labels, device)
        n, lr = len(labels), optimizer.param_groups[0]["lr"]
        if n > kept.size:
            kept = _Buffers(n, w1, w2)
        h, z2, dz1, dead, ones, minus_ones = kept.first(n)

        torch.addmm(b1, x, w1.t(), out=h).clamp_(min=0)
        torch.addmm(b2, h, w2.t(), out=z2)
        log_p = torch.log_softmax(z2, dim=1)
        loss = functional.nll_loss(log_p, labels)

        dz2 = log_p.exp_().scatter_add_(1, labels.unsqueeze(1), minus_ones)  # n times dz2; dz1 too
        torch.mm(dz2, w2, out=dz1).masked_fill_(torch.le(h, 0, out=dead), 0)
        w2.addmm_(dz2.t(), h, alpha=-lr / n)
        b2.addmv_(dz2.t(), ones, alpha=-lr / n)
        w1.addmm_(dz1.t(), x, alpha=-lr / n)
        b1.addmv_(dz1.t(), ones, alpha=-lr / n)

        total.add_(loss, alpha=n)
        count += n
        if on_batch is not None:
            on_batch(batch, loss)
    return mean(total, count)


class _Buffers:
    """Memory for the intermediate results of a step with up to ``size`` images; each step reuses it."""

    def __init__(self, size: int, w1: Tensor, w2: Tensor) -> None:
        self.size = size
        hidden, classes = len(w1), len(w2)
        self.all = (
            w1.new_empty(size, hidden),
            w1.new_empty(size, classes),
            w1.new_empty(size, hidden),
            w1.new_empty(size, hidden, dtype=torch.bool),
            w1.new_ones(size),
            w1.new_full((size, 1), -1),
        )

    def first(self, n: int) -> Sequence[Tensor]:
        """Return the memory for ``n`` images."""
        return self.all if n == self.size else [buffer[:n] for buffer in self.all]
