"""CUDA: the steps of a whole epoch are captured as one CUDA graph, which the CPU starts with a single call.

Not measured: it has not been run on CUDA.

A step of the lesson's MLP is some thirty kernels of a few microseconds each, and starting one takes the CPU as long as
it runs. A graph is started once. Inside it, batches are taken from resident data by an order that is on the device too,
so nothing waits for the CPU until the epoch's loss is read. The loss, the backward pass and the optimizer are torch's
own; they run once, while they are captured. If a loader yields its batches one by one, each step is a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnist_loop import loop
from mnist_loop.data import normalise
from mnist_loop.engines import contract
from mnist_loop.engines.contract import SizedLoader, hooked
from mnist_loop.engines.resident import ResidentLoader, make_loaders
from mnist_loop.loop import Loader, LossFunction, evaluate, mean, shape_input, to_device, zero

__all__ = ["evaluate", "make_loaders", "prepare", "train_one_epoch"]

AT_ONCE = 1
LEAD = 3  # batches before a capture, which create gradients, the optimizer's state and the libraries' work spaces
DEVICE = "cuda"

_unsuitable = partial(contract.unsuitable, "graphed")


@dataclass
class Graph:
    """Captured steps, with the tensors that they read and write at each start.

    Attributes:
        images: the whole data set, or one batch.
        labels: of the images.
        order: positions of the images, batch after batch; None if ``images`` are one batch.
        losses: the losses (steps,) of the last start.
        start: starts the steps.
    """

    images: Tensor
    labels: Tensor
    order: Tensor | None
    losses: Tensor
    start: Callable[[], object] = field(default=lambda: None)

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.losses)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the images and labels of a step, on the device."""
        if self.order is None:
            return self.images, self.labels
        positions = self.order.chunk(self.steps)[step]
        return normalise(self.images.index_select(0, positions)), self.labels.index_select(0, positions)


# Captured steps by optimizer; they live as long as the optimizer.
_captured: WeakKeyDictionary[Optimizer, dict[str, Graph]] = WeakKeyDictionary()


def prepare(
    model: nn.Module,
    loader: SizedLoader,
    loss_fn: LossFunction,  # noqa: ARG001  # the contract's arguments
    optimizer: Optimizer,
    device: torch.device | str,
) -> str:
    """Check that the steps can be captured. They are captured after the first batches of the first epoch.

    Raises:
        Unsuitable: the device is not CUDA, there are hooks, or the optimizer reads from the device.
    """
    _check(model, optimizer, device)
    steps = len(loader.labels) // loader.batch_size - LEAD if isinstance(loader, ResidentLoader) else 1
    return f"{max(0, steps)} steps will be one CUDA graph"


def train_one_epoch(
    model: nn.Module,
    loader: Loader,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
    on_batch: Callable[[int, Tensor], None] | None = None,
) -> float:
    """Train as `mnist_loop.loop.train_one_epoch` does; ``on_batch`` is called after all steps of a graph, for each.

    The first batches and a smaller last one are trained by the lesson's loop. The parameters are left without
    gradients.

    Raises:
        Unsuitable: as in `prepare`.
    """
    _check(model, optimizer, device)
    model.train()
    total, count, number = zero(device), 0, 0
    with _beside(device):
        for losses, images in _trained(model, loader, loss_fn, optimizer, device):
            total.add_(losses.sum(dtype=total.dtype), alpha=images // len(losses))
            count += images
            if on_batch is not None:
                for place, loss in enumerate(losses.unbind(), start=number):
                    on_batch(place, loss)
            number += len(losses)
    optimizer.zero_grad()
    return mean(total, count)


def _trained(
    model: nn.Module, loader: Loader, loss_fn: LossFunction, optimizer: Optimizer, device: torch.device | str
) -> Iterator[tuple[Tensor, int]]:
    """Train; yield the losses of one or more steps with equal batch sizes, and their number of images."""

    def alone(images: Tensor, labels: Tensor) -> tuple[Tensor, int]:
        losses: list[Tensor] = []
        loop.train_one_epoch(model, [(images, labels)], loss_fn, optimizer, device, lambda _, loss: losses.append(loss))
        return torch.stack(losses), len(labels)

    if isinstance(loader, ResidentLoader):
        size, order = loader.batch_size, loader.draw()
        steps = max(0, len(order) // size - LEAD)
        for place, positions in enumerate(order.split([*_sizes(len(order), size, steps)])):
            if steps and place == LEAD:
                wanted = Graph(loader.images, loader.labels, positions, zero(device))
                graph = _get(wanted, steps, model, loss_fn, optimizer)
                assert graph.order is not None
                graph.order.copy_(positions)
                graph.start()
                yield graph.losses.clone(), len(positions)
            else:
                yield alone(normalise(loader.images[positions]), loader.labels[positions])
        return
    first = None
    for place, (images, labels) in enumerate(loader):
        if place < LEAD or images.shape != first:
            first = images.shape if place == 0 else first
            yield alone(images, labels)
            continue
        given = to_device(shape_input(images, model), device), to_device(labels, device)
        graph = _get(Graph(*given, None, zero(device)), 1, model, loss_fn, optimizer)
        graph.images.copy_(given[0])
        graph.labels.copy_(given[1])
        graph.start()
        yield graph.losses.clone(), len(labels)


def _sizes(images: int, batch_size: int, steps: int) -> Iterator[int]:
    """Yield the number of images in each lead batch, in the graph, and in each remaining batch."""
    done = 0
    while done < images:
        in_graph = steps > 0 and done == LEAD * batch_size
        size = min(batch_size * (steps if in_graph else 1), images - done)
        yield size
        done += size


def _get(wanted: Graph, steps: int, model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer) -> Graph:
    """Return the graph of such steps; capture it at the first call."""
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    where = wanted.images.data_ptr() if wanted.order is not None else wanted.images.shape
    length = None if wanted.order is None else len(wanted.order)
    key = f"{id(model)} {id(loss_fn)} {where} {wanted.images.dtype} {length} {steps} {groups} {trained}"
    known = _captured.setdefault(optimizer, {})
    if key not in known:
        graph = Graph(
            wanted.images if wanted.order is not None else wanted.images.clone(),
            wanted.labels if wanted.order is not None else wanted.labels.clone(),
            None if wanted.order is None else wanted.order.clone(),
            torch.zeros(steps, dtype=_dtype(model), device=wanted.images.device),
        )
        graph.start = capture(lambda: _steps(graph, model, loss_fn, optimizer))
        known[key] = graph
    return known[key]


def _steps(graph: Graph, model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer) -> None:
    """Run the lesson's steps."""
    for step in range(graph.steps):
        images, labels = graph.batch(step)
        optimizer.zero_grad()
        loss = loss_fn(model(shape_input(images, model)), labels)
        loss.backward()
        optimizer.step()
        graph.losses[step].copy_(loss.detach())


def capture(work: Callable[[], None]) -> Callable[[], object]:
    """Capture the kernels of ``work`` without running them; return a function that starts them all."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


@contextmanager
def _beside(device: torch.device | str) -> Iterator[None]:
    """Run the block on a stream of its own, as a capture requires, and wait for it at the end."""
    if torch.device(device).type != "cuda":
        yield
        return
    own, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    own.wait_stream(current)
    with torch.cuda.stream(own):
        yield
    current.wait_stream(own)


def _dtype(model: nn.Module) -> torch.dtype:
    return next((one.dtype for one in model.parameters()), torch.get_default_dtype())


def _check(model: nn.Module, optimizer: Optimizer, device: torch.device | str) -> None:
    where = hooked(model, optimizer)
    if torch.device(device).type != DEVICE:
        raise _unsuitable(f"the device is {device}, expected cuda")
    if where is not None:
        raise _unsuitable(f"{where} has hooks, which would be called once and never again")
    for group in optimizer.param_groups:
        if group.get("capturable") is False:
            name = type(optimizer).__name__
            raise _unsuitable(f"{name} reads its state from the device, expected {name}(..., capturable=True)")
