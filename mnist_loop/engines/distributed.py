"""DistributedDataParallel: each process trains on its share of every batch, and all end with the same parameters.

Measured: two processes on one machine reach 0.18 times the rate of `resident` at batch size 64, and 0.89 times at 1024
(AMD EPYC, 1 thread each, torch 2.15.0, 5 rounds; docs/engines.md).

It is started by torchrun: ``torchrun --nproc-per-node 2 -m mnist_loop train --engine distributed``. The processes
communicate through gloo, or nccl on CUDA. Each has all data, and all draw the same order from the same seed.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
import torch.distributed as processes
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from mnist_loop import loop
from mnist_loop.engines.contract import SizedLoader, Unsuitable
from mnist_loop.engines.resident import make_loaders
from mnist_loop.loop import Evaluation, Loader, LossFunction, mean, shape_input, to_device, zero

__all__ = ["evaluate", "make_loaders", "prepare", "train_one_epoch"]

AT_ONCE = 1

HOW = "torchrun --nproc-per-node 2 -m mnist_loop train --engine distributed"

# Summed tensors are kept for a while, to avoid a deadlock with torch 2.4: a gloo thread that drops the last reference
# to a tensor waits for the interpreter, which waits for that thread when it exits.
_kept: deque[Tensor] = deque(maxlen=64)

# Replicas by optimizer; they live as long as the optimizer, because making one adds hooks to the parameters.
_replicas: WeakKeyDictionary[Optimizer, DistributedDataParallel] = WeakKeyDictionary()


def prepare(
    model: nn.Module,
    loader: SizedLoader,  # noqa: ARG001  # the contract's arguments
    loss_fn: LossFunction,  # noqa: ARG001
    optimizer: Optimizer,
    device: torch.device | str,
) -> str:
    """Join the other processes, and make a replica of the model.

    Raises:
        Unsuitable: torchrun did not start this process, or the model computes something else on a share of a batch.
    """
    _replica(model, optimizer, device)
    return f"{processes.get_world_size()} processes, by {processes.get_backend()}"


def train_one_epoch(
    model: nn.Module,
    loader: Loader,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
    on_batch: Callable[[int, Tensor], None] | None = None,
) -> float:
    """Train as `mnist_loop.loop.train_one_epoch` does, on this process's share of the batches that ``loader`` yields.

    All processes get the same batches and return the same loss.

    Raises:
        Unsuitable: as in `prepare`.
    """
    replica, size = _replica(model, optimizer, device), processes.get_world_size()
    model.train()
    total, count = zero(device), 0
    for batch, (all_images, all_labels) in enumerate(loader):
        images, labels, share = _share(all_images, all_labels)
        images, labels = to_device(shape_input(images, model), device), to_device(labels, device)
        optimizer.zero_grad()
        # The average of the replicas' gradients is weighted, because shares may differ by an image.
        loss = loss_fn(replica(images), labels) * (share * size)
        loss.backward()
        optimizer.step()
        total.add_(loss.detach(), alpha=len(all_labels) / size)
        count += len(all_labels)
        if on_batch is not None:
            of_all = loss.detach() / size
            _add_up(of_all)
            on_batch(batch, of_all)
    _add_up(total)
    return mean(total, count)


def evaluate(model: nn.Module, loader: Loader, loss_fn: LossFunction, device: torch.device | str) -> Evaluation:
    """Evaluate as `mnist_loop.loop.evaluate` does. Each process evaluates its share; all return the same."""
    _join(device)
    count = 0

    def shares() -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal count
        for all_images, all_labels in loader:
            images, labels, share = _share(all_images, all_labels)
            if share > 0:
                count += len(labels)
                yield images, labels

    try:
        found = loop.evaluate(model, shares(), loss_fn, device)
    except ValueError:
        if count:
            raise
        found = Evaluation(0.0, 0.0)  # too few images: this process has no share
    sums = torch.tensor([found.loss * count, round(found.accuracy * count), count], dtype=torch.float64, device=device)
    _add_up(sums)
    images = int(sums[2])
    return Evaluation(loss=mean(sums[0], images), accuracy=mean(sums[1], images))


def _add_up(values: Tensor) -> None:
    """Replace ``values`` by the sum over all processes."""
    _kept.append(values)
    processes.all_reduce(values)


def _share(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return this process's share of a batch and its size, from 0 to 1; an empty share is one image of weight 0."""
    own = slice(processes.get_rank(), None, processes.get_world_size())
    if len(labels[own]) == 0:
        return images[:1], labels[:1], 0.0
    return images[own], labels[own], len(labels[own]) / len(labels)


def _replica(model: nn.Module, optimizer: Optimizer, device: torch.device | str) -> DistributedDataParallel:
    _join(device)
    if optimizer not in _replicas:
        if processes.get_world_size() > 1:
            _check(model)
        _replicas[optimizer] = DistributedDataParallel(model)
    return _replicas[optimizer]


def _check(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            raise _unsuitable("BatchNorm would see one process's share of a batch alone")
        if isinstance(module, _DropoutNd) and module.p > 0:
            raise _unsuitable("Dropout would draw other masks than one process does")


def _join(device: torch.device | str) -> None:
    """Join the processes that torchrun started, once."""
    if processes.is_initialized():
        return
    if "RANK" not in os.environ:
        raise Unsuitable(f"engine distributed: not started by torchrun, expected {HOW}")
    backend = "nccl" if torch.device(device).type == "cuda" else "gloo"
    with _stdout_is_stderr():
        processes.init_process_group(backend)
    atexit.register(processes.destroy_process_group)


@contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """Redirect stdout to stderr, also for C code: gloo of torch 2.9 prints to stdout, which is for results."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _unsuitable(why: str) -> Unsuitable:
    return Unsuitable(f"engine distributed: {why}; the engines resident and reference train it in one process")
