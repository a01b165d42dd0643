"""Linear layers with ReLU in C: forward and backward passes and updates of a whole epoch, vectorised, on all threads.

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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Optimizer

from mnist_loop.engines import contract
from mnist_loop.engines.contract import SizedLoader
from mnist_loop.engines.layers import Layers, layers_of
from mnist_loop.engines.lesson import check_rest
from mnist_loop.engines.resident import ResidentLoader, make_loaders
from mnist_loop.loop import Loader, LossFunction, evaluate, mean, shape_input, to_device, zero
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
    """Check that it can train this, and compile.

    Raises:
        Unsuitable: the model is not linear layers with ReLU between them, the loss not cross entropy or the optimizer
            not SGD; or the device is not the CPU, or there is no C compiler.
    """
    began = time.perf_counter()
    library, _ = _check(model, loss_fn, optimizer, device)
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
    library, layers = _check(model, loss_fn, optimizer, device)
    model.train()
    optimizer.zero_grad()
    total, count, batch = zero(device), 0, 0
    with _weights(layers.of(model), optimizer, library.width) as weights:
        for piece in _pieces(loader, model, layers, device):
            losses = library.train(piece, weights, optimizer.param_groups[0])
            sizes = torch.full_like(losses, piece.batch)
            sizes[-1] = piece.count - piece.batch * (len(losses) - 1)
            total += losses @ sizes
            count += piece.count
            if on_batch is not None:
                weights.write_back()
                for number, loss in enumerate(losses.to(weights.values.dtype).unbind(), start=batch):
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


def _pieces(loader: Loader, model: nn.Module, layers: Layers, device: torch.device | str) -> Iterator[_Piece]:
    """Cut an epoch into pieces, and check each, because the C code does not."""
    first, last = layers.of(model)[0], layers.of(model)[-1]
    dtype, classes = first.weight.dtype, last.out_features

    def shape(given: Tensor) -> Tensor:
        images = shape_input(given, model)  # raises if they do not fit
        images = images.flatten(1) if layers.flatten else images
        if images.shape[1:] != (first.in_features,):
            raise RuntimeError(f"images of {tuple(images.shape[1:])} found, expected ({first.in_features},)")
        return images

    if isinstance(loader, ResidentLoader):
        images, labels, size = loader.images.contiguous(), loader.labels.contiguous(), loader.batch_size
        if dtype != torch.float32:
            raise RuntimeError(f"images of float32 found, expected {dtype} as the weights")
        if images.dtype != torch.uint8:
            raise RuntimeError(f"resident images of {images.dtype} found, expected torch.uint8")
        _check_labels(labels, len(images), classes)
        shape(images[:1])
        for order in loader.draw().split(max(1, IMAGES_AT_ONCE // size) * size):
            yield _Piece(images, labels, order, len(order), size)
        return
    for given, targets in loader:
        images, labels = to_device(shape(given), device).contiguous(), to_device(targets, device)
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


Pair = tuple[Tensor, Tensor | None]  # of a layer: weight and bias, or their momenta


class _Weights:
    """Parameters, and their momenta if the optimizer has any, in the layout of the C code."""

    def __init__(self, layers: list[nn.Linear], optimizer: Optimizer, width: int) -> None:
        self.layers, self.width = layers, width
        self.parameters: list[Pair] = [(layer.weight, layer.bias) for layer in layers]
        self.buffers: list[Pair] = []
        if optimizer.param_groups[0]["momentum"]:
            momentum = partial(_momentum, optimizer)
            self.buffers = [
                (momentum(weight), None if bias is None else momentum(bias)) for weight, bias in self.parameters
            ]
        self.values, self.momenta = self._packed(self.parameters), self._packed(self.buffers)

    def write_back(self) -> None:
        """Copy these values back into the parameters and the optimizer's state."""
        for packed, pairs in ((self.values, self.parameters), (self.momenta, self.buffers)):
            rest = packed
            for weight, bias in pairs:
                rows, blocks = weight.shape[1] + (bias is not None), -(-len(weight) // self.width)
                own, rest = rest.tensor_split([rows * blocks * self.width])
                columns = own.view(blocks, rows, self.width).transpose(1, 2).flatten(0, 1)[: len(weight)]
                weight.copy_(columns[:, rows - weight.shape[1] :])
                if bias is not None:
                    bias.copy_(columns[:, 0])

    def _packed(self, pairs: list[Pair]) -> Tensor:
        """Return for each pair its rows, of which the first is the bias, in blocks of columns, padded with zeros."""
        packed = [self.parameters[0][0].new_empty(0)]
        for weight, bias in pairs:
            rows = weight.t() if bias is None else torch.cat((bias.unsqueeze(0), weight.t()))
            padded = functional.pad(rows, (0, -len(weight) % self.width))
            packed.append(padded.view(len(rows), -1, self.width).transpose(0, 1).flatten())
        return torch.cat(packed)


def _momentum(optimizer: Optimizer, parameter: Tensor) -> Tensor:
    """Return the optimizer's buffer; before the first step it is zero."""
    state: dict[str, Tensor | None] = optimizer.state[parameter]
    buffer = state.get("momentum_buffer")
    if buffer is None:
        buffer = state["momentum_buffer"] = torch.zeros_like(parameter)
    return buffer


@contextmanager
def _weights(layers: list[nn.Linear], optimizer: Optimizer, width: int) -> Iterator[_Weights]:
    weights = _Weights(layers, optimizer, width)
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
            *((field, number) for field in ("count", "batch", "layers")),
            *((field, pointer) for field in ("widths", "biases", "weights", "momenta")),
            *((field, real) for field in ("lr", "momentum", "decay", "sign")),
            *((field, number) for field in ("nesterov", "threads", "group")),
            ("losses", pointer),
        ]
        self._job = type("Job", (ctypes.Structure,), {"_fields_": fields})

    def train(self, piece: _Piece, weights: _Weights, options: dict[str, Any]) -> Tensor:
        """Train the batches of ``piece`` with SGD's options; return the mean loss of each, float64 (batches,)."""
        losses = torch.empty(-(-piece.count // piece.batch), dtype=torch.float64)
        threads = torch.get_num_threads()
        group = GROUP if piece.batch >= BY_IMAGE else 0
        layers = weights.layers
        widths = [layers[0].in_features, *(layer.out_features for layer in layers)]
        blocks = -(-max(widths[1:-1] or widths) // self.width)
        its_widths, biases = torch.tensor(widths), torch.tensor([int(layer.bias is not None) for layer in layers])
        job = self._job(
            bytes=None if piece.order is None else piece.images.data_ptr(),
            floats=piece.images.data_ptr() if piece.order is None else None,
            order=None if piece.order is None else piece.order.data_ptr(),
            labels=piece.labels.data_ptr(),
            count=piece.count,
            batch=piece.batch,
            layers=len(layers),
            widths=its_widths.data_ptr(),
            biases=biases.data_ptr(),
            weights=weights.values.data_ptr(),
            momenta=weights.momenta.data_ptr() if len(weights.momenta) else None,
            lr=float(options["lr"]),
            momentum=options["momentum"],
            decay=options["weight_decay"],
            sign=-1 if options["maximize"] else 1,
            nesterov=options["nesterov"],
            threads=threads if group else min(threads, blocks),
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


def _check(
    model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer, device: torch.device | str
) -> tuple[_Library, Layers]:
    layers = layers_of(model)
    if layers is None:
        raise _unsuitable(f"the model is {type(model).__name__}, expected linear layers with ReLU between them")
    if type(optimizer) is not SGD or optimizer.param_groups[0]["dampening"]:
        raise _unsuitable("the optimizer is another one than torch's SGD without dampening")
    check_rest(NAME, model, loss_fn, optimizer)
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if torch.device(device).type != "cpu":
        raise _unsuitable(f"the device is {torch.device(device).type}, expected the CPU")
    if len(dtypes) > 1 or not dtypes <= set(REAL):
        raise _unsuitable("the parameters are of another dtype than float32 or float64")
    return _library(*dtypes), layers
