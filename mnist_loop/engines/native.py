"""The lesson's MLP in C: forward and backward passes and updates of a whole epoch, vectorised, on all threads.

Measured: 590k images/s at batch size 64, 29.3 times as fast as `reference` (AMD EPYC, 2 threads, torch 2.15.0, 20
epochs; docs/engines.md).

`native.c`, in this folder, explains how. The machine's C compiler compiles it for this CPU when it is first needed, in
about a second; the result is kept in the user's cache folder. The data are resident. It shows how fast this training
can be on a CPU.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnist_loop.engines import contract
from mnist_loop.engines.contract import SizedLoader
from mnist_loop.engines.lesson import check
from mnist_loop.engines.resident import ResidentLoader, make_loaders
from mnist_loop.loop import Loader, LossFunction, evaluate, mean, shape_input, to_device, zero
from mnist_loop.model import MLP
from mnist_loop.support.cache import cache_folder
from mnist_loop.support.leftovers import temporary_folder

__all__ = ["evaluate", "make_loaders", "prepare", "train_one_epoch"]

AT_ONCE = 1

NAME = "native"
SOURCE = Path(__file__).with_suffix(".c")
REAL = {torch.float32: ("float", ctypes.c_float), torch.float64: ("double", ctypes.c_double)}
# A product and the following sum are rounded once (FMA) if the CPU can, as in torch's own products.
OPTIONS = ("-O3", "-ffp-contract=fast", "-pthread", "-shared", "-fPIC")
FOR_THIS_CPU = ("-march=native", "-mcpu=native")  # the second if the first is unknown, as on some ARMs
# From how many images in a batch each thread takes a share of them, instead of a share of the hidden units. It then
# adds up its own gradients, and does not wait within a batch. On one thread of an AMD EPYC both reach the same at 256.
BY_IMAGE = 256
GROUP = 64  # images that a thread then works on at a time; groups of 64 to 256 differ by less than 3 % there
IMAGES_AT_ONCE = 2**14  # in a call, which takes some tens of milliseconds; between calls Ctrl-C works

_unsuitable = partial(contract.unsuitable, NAME)


def prepare(
    model: nn.Module,
    loader: SizedLoader,  # noqa: ARG001  # the contract's arguments
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
) -> str:
    """Check that model, loss and optimizer are the lesson's, and compile.

    Raises:
        Unsuitable: they are not; or the device is not the CPU, or there is no C compiler.
    """
    began = time.perf_counter()
    library = _check(model, loss_fn, optimizer, device)
    seconds = time.perf_counter() - began
    return f"compiled for {library.width} hidden values at a time in {seconds:.1f} s"


@torch.no_grad()
def train_one_epoch(
    model: nn.Module,
    loader: Loader,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
    on_batch: Callable[[int, Tensor], None] | None = None,
) -> float:
    """Train as `mnist_loop.loop.train_one_epoch` does; ``on_batch`` is called after a group of steps, once for each.

    The parameters are left without gradients.

    Raises:
        Unsuitable: as in `prepare`.
        IndexError: a label is not one of the classes.
        ValueError: the numbers of images and labels differ.
        RuntimeError: images or labels have the wrong dtype, or images the wrong size.
    """
    library = _check(model, loss_fn, optimizer, device)
    assert isinstance(model, MLP)
    model.train()
    optimizer.zero_grad()
    total, count, batch = zero(device), 0, 0
    with _weights(model, library.width) as weights:
        for piece in _pieces(loader, model, device):
            losses = library.train(piece, weights, float(optimizer.param_groups[0]["lr"]))
            sizes = torch.full_like(losses, piece.batch)
            sizes[-1] = piece.count - piece.batch * (len(losses) - 1)
            total += losses @ sizes
            count += piece.count
            if on_batch is not None:
                weights.write_back()
                for number, loss in enumerate(losses.to(weights.w1.dtype).unbind(), start=batch):
                    on_batch(number, loss)
            batch += len(losses)
    return mean(total, count)


@dataclass(frozen=True)
class _Piece:
    """Batches for one call.

    Attributes:
        images: the whole data set as uint8, if there is an ``order``; else the images (count, pixels) of this call.
        labels: of ``images``.
        order: positions (count,) of the images of this call; None if ``images`` are all of this call.
        count: number of images in this call.
        batch: images in a batch; the last one may be smaller.
    """

    images: Tensor
    labels: Tensor
    order: Tensor | None
    count: int
    batch: int


def _pieces(loader: Loader, model: MLP, device: torch.device | str) -> Iterator[_Piece]:
    """Cut an epoch into pieces, and check each, because the C code does not."""
    dtype, classes = model.fc1.weight.dtype, model.fc2.out_features
    if isinstance(loader, ResidentLoader):
        images, labels, size = loader.images.contiguous(), loader.labels.contiguous(), loader.batch_size
        if dtype != torch.float32:
            raise RuntimeError(f"images of float32 found, expected {dtype} as the weights")
        if images.dtype != torch.uint8:
            raise RuntimeError(f"resident images of {images.dtype} found, expected torch.uint8")
        _check_labels(labels, len(images), classes)
        shape_input(images[:1], model)  # raises if they do not fit
        for order in loader.draw().split(max(1, IMAGES_AT_ONCE // size) * size):
            yield _Piece(images, labels, order, len(order), size)
        return
    for given, targets in loader:
        images, labels = to_device(shape_input(given, model), device).contiguous(), to_device(targets, device)
        if images.dtype != dtype:
            raise RuntimeError(f"images of {images.dtype} found, expected {dtype} as the weights")
        _check_labels(labels, len(images), classes)
        yield _Piece(images, labels.contiguous(), None, len(labels), max(1, len(labels)))


def _check_labels(labels: Tensor, images: int, classes: int) -> None:
    if len(labels) != images:
        raise ValueError(f"{images} images and {len(labels)} labels found, expected as many")
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise RuntimeError(f"labels {tuple(labels.shape)} of {labels.dtype} found, expected (N,) of torch.int64")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise IndexError(f"Target {int(wrong[0])} is out of bounds.")


class _Weights:
    """A model's parameters in the layout of the C code: hidden units in blocks of ``width``, padded with zeros."""

    def __init__(self, model: MLP, width: int) -> None:
        self.model = model
        (self.hidden, self.pixels), self.classes = model.fc1.weight.shape, len(model.fc2.weight)
        blocks = -(-self.hidden // width)
        self.padded = blocks * width
        new = model.fc1.weight.new_zeros
        by_unit = new(self.padded, self.pixels)
        by_unit[: self.hidden] = model.fc1.weight
        self.w1 = by_unit.view(blocks, width, self.pixels).transpose(1, 2).contiguous()
        self.b1, self.w2, self.b2 = new(self.padded), new(self.classes, self.padded), model.fc2.bias.clone()
        self.b1[: self.hidden], self.w2[:, : self.hidden] = model.fc1.bias, model.fc2.weight

    def write_back(self) -> None:
        """Copy these values back into the model's parameters."""
        self.model.fc1.weight.copy_(self.w1.transpose(1, 2).reshape(self.padded, self.pixels)[: self.hidden])
        self.model.fc1.bias.copy_(self.b1[: self.hidden])
        self.model.fc2.weight.copy_(self.w2[:, : self.hidden])
        self.model.fc2.bias.copy_(self.b2)


@contextmanager
def _weights(model: MLP, width: int) -> Iterator[_Weights]:
    weights = _Weights(model, width)
    try:
        yield weights
    finally:
        weights.write_back()  # also after an exception


class _Library:
    """`native.c`, compiled for one dtype.

    Raises:
        Unsuitable: it cannot be compiled here.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        name, real = REAL[dtype]
        self._functions = _compile(name)
        self.width: int = self._functions.width()
        pointer, number = ctypes.c_void_p, ctypes.c_long
        fields: list[tuple[str, type]] = [
            *((field, pointer) for field in ("bytes", "floats", "order", "labels")),
            *((field, number) for field in ("count", "batch", "pixels", "hidden", "classes")),
            *((field, pointer) for field in ("w1", "b1", "w2", "b2")),
            ("lr", real),
            ("threads", number),
            ("group", number),
            ("losses", pointer),
        ]
        self._job = type("Job", (ctypes.Structure,), {"_fields_": fields})

    def train(self, piece: _Piece, weights: _Weights, lr: float) -> Tensor:
        """Train the batches of ``piece``; return the mean loss of each, float64 (batches,)."""
        losses = torch.empty(-(-piece.count // piece.batch), dtype=torch.float64)
        threads = torch.get_num_threads()
        group = GROUP if piece.batch >= BY_IMAGE else 0
        job = self._job(
            bytes=None if piece.order is None else piece.images.data_ptr(),
            floats=piece.images.data_ptr() if piece.order is None else None,
            order=None if piece.order is None else piece.order.data_ptr(),
            labels=piece.labels.data_ptr(),
            count=piece.count,
            batch=piece.batch,
            pixels=weights.pixels,
            hidden=weights.padded,
            classes=weights.classes,
            **{name: getattr(weights, name).data_ptr() for name in ("w1", "b1", "w2", "b2")},
            lr=lr,
            threads=threads if group else min(threads, weights.padded // self.width),
            group=group,
            losses=losses.data_ptr(),
        )
        if self._functions.train(ctypes.byref(job)) != 0:
            raise MemoryError(f"no memory or no threads for batches of {piece.batch} images")
        return losses


@cache
def _library(dtype: torch.dtype) -> _Library:
    return _Library(dtype)


def _compile(real: str) -> ctypes.CDLL:
    """Compile `native.c`, or load what was kept of it: for the same source, compiler, options and CPU."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise _unsuitable("there is no C compiler (cc, gcc or clang)")
    for option in FOR_THIS_CPU:
        how = [*compiler.split(), *OPTIONS, option, f"-Dreal={real}"]
        # What it defines for these options says its version, and what this CPU can.
        known = _run([*how, "-E", "-dM", "-x", "c", os.devnull])
        if known.returncode == 0:
            break
    else:
        raise _unsuitable(f"the C compiler {compiler} fails ({_error_of(known)})")
    key = hashlib.sha256("\0".join([SOURCE.read_text("utf-8"), *how, known.stdout]).encode()).hexdigest()
    try:
        kept = cache_folder() / f"native-{key[:32]}.so"
        if kept.exists():
            with suppress(OSError):  # it is damaged
                return ctypes.CDLL(str(kept))
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        place: Path | None = kept.parent
    except (OSError, RuntimeError):  # there is no home, or it cannot be written to
        place = None
    with temporary_folder("native", place if place and os.access(place, os.W_OK) else None) as folder:
        file = folder / "native.so"
        done = _run([*how, str(SOURCE), "-o", str(file), "-lm"])
        if done.returncode != 0:
            raise _unsuitable(f"the C compiler {compiler} fails ({_error_of(done)})")
        if folder.parent == place:
            file = file.replace(kept)
        return ctypes.CDLL(str(file))


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise _unsuitable(f"the C compiler {command[0]} does not start ({error.strerror})") from error


def _error_of(done: subprocess.CompletedProcess[str]) -> str:
    return next((line for line in done.stderr.splitlines() if "error" in line), "it says nothing").strip()


def _check(model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer, device: torch.device | str) -> _Library:
    check(NAME, model, loss_fn, optimizer)
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if torch.device(device).type != "cpu":
        raise _unsuitable(f"the device is {torch.device(device).type}, expected the CPU")
    if len(dtypes) > 1 or not dtypes <= set(REAL):
        raise _unsuitable("the parameters are of another dtype than float32 or float64")
    return _library(*dtypes)
