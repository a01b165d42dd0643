"""Workloads: the input pipeline, the training step, both together, evaluation, and an engine's epoch.

A workload prepares fresh state outside the clock, returns the callable that is timed, and checks its result.
"""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mnist_loop.data import Data, make_loaders, normalise
from mnist_loop.errors import UserError
from mnist_loop.loop import Loader, evaluate, train_one_epoch
from mnist_loop.model import MLP

if TYPE_CHECKING:
    from mnist_loop.engines.contract import Engine

REFERENCE = "reference"
SEED = 0
LEARNING_RATE = 0.01
IMAGES_IN_MEMORY = 16384  # 49 MiB in float32, more than most caches
LONGEST_SUM = 28 * 28  # terms in the longest dot product of the forward pass
ROUNDING_CONFIDENCE = 4.0  # Higham and Mary (2019): exceeded with probability 2 exp(-4**2 / 2) = 0.0007 at most
STEPS_IN_MEMORY = 4096
# In a longer training, rounding may change the sign of a ReLU's input, and one sample's gradient with it. Of 150
# trainings of up to 65 steps in float32 none differed from float64 by more than rounding explains; of 185 steps 3%, of
# 900 steps 7%, by up to 0.0005 of the loss.
STEPS_OF_EQUAL_SIGNS = 65
OTHER_SIGNS = 0.001
EVALUATION = "evaluation"  # the part that works on test images

Batch = tuple[Tensor, Tensor]


class WrongResult(AssertionError):
    """The result of the timed work is wrong."""


def loss_tolerance(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Return by which share of itself a mean loss in ``dtype`` may differ from its exact value.

    Rounding errors in a sum of n terms stay below lambda sqrt(n) u with high probability (Higham and Mary,
    "A New Approach to Probabilistic Rounding Error Analysis", 2019). The unit roundoff u is that of ``dtype``, or of
    TF32 where CUDA may multiply float32 in it.
    """
    tf32 = device.type == "cuda" and dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
    unit_roundoff = 2.0**-11 if tf32 else torch.finfo(dtype).eps / 2
    return ROUNDING_CONFIDENCE * math.sqrt(LONGEST_SUM) * unit_roundoff


def check_batch_size(batch_size: int, data: Data, *parts: str) -> None:
    """Refuse batches that the data cannot fill.

    Args:
        batch_size: the largest one.
        data: where the images come from.
        parts: what is measured; nothing for all parts.

    Raises:
        UserError: says how many images there are.
    """
    sizes = {"test": len(data.test), "training": len(data.train)}
    splits = {"test" if part == EVALUATION else "training" for part in parts} or set(sizes)
    split = min(splits, key=lambda name: sizes[name])
    if batch_size > sizes[split]:
        raise UserError(
            f"a batch size of {batch_size} found, expected at most {sizes[split]}, the number of {split} images of "
            f"{data.name}: name smaller ones"
        )


@dataclass
class TimedWorkload(ABC):
    """One part of training, at one batch size on one device.

    Attributes:
        data: where the images come from.
        batch_size: images in a batch.
        device: where the work is done.
        dtype: of the model and the images.
        engine: how it is trained.
        prepare_s: the longest time that the engine took to prepare, in seconds; 0.0 before.
        part: name of the part in results.
        most_steps: the largest number of batches that one timed block can have.
    """

    data: Data
    batch_size: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    engine: str = REFERENCE
    prepare_s: float = field(default=0.0, init=False)
    part: ClassVar[str]
    trains: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Name of the part in results, with that of the engine where it matters."""
        return self.part

    @property
    def at_once(self) -> int:
        """How many steps the engine makes at a time; a block has a multiple of them."""
        return 1 if self.engine == REFERENCE else self.loaded.AT_ONCE

    def block(self, steps: int) -> int:
        """Return the steps of a block that is to have about ``steps``."""
        return steps

    @property
    def most_steps(self) -> int:
        return max(1, len(self.data.train) // self.batch_size)

    def prepare(self, steps: int) -> Callable[[], Any]:
        """Prepare fresh state for ``steps`` batches; return the callable to be timed."""
        return self.work_on(self.batches(steps))

    @abstractmethod
    def batches(self, steps: int) -> Iterator[Batch]:
        """Return the batches of ``steps`` steps."""

    @abstractmethod
    def work_on(self, batches: Iterator[Batch]) -> Callable[[], Any]:
        """Prepare fresh state; return the callable that does the work on ``batches``."""

    @abstractmethod
    def expected(self, steps: int) -> Any:
        """Compute the result that the callable must return, in another way or in float64."""

    def tolerance(self, steps: int) -> float:
        """Return by which share of itself the result of so many steps may differ from the exact one."""
        rounding = loss_tolerance(self.device, self.dtype)
        return max(rounding, OTHER_SIGNS) if self.trains and steps > STEPS_OF_EQUAL_SIGNS else rounding

    def check(self, found: Any, expected: Any, steps: int = 1) -> None:
        """Compare the result of so many steps with the expected one.

        Raises:
            WrongResult: the two differ by more than rounding explains.
        """
        tolerance = self.tolerance(steps)
        if not abs(found - expected) <= tolerance * abs(expected):
            raise WrongResult(
                f"{self.part}: the loss is {found!r}, but should be {expected!r} to within {tolerance:.1e} of it"
            )

    def check_first(self, steps: int) -> None:
        """Check the result of the first of so many steps, in which every sign is equal, to within rounding.

        Raises:
            WrongResult: it differs.
        """
        few = self.block(min(steps, STEPS_OF_EQUAL_SIGNS))
        self.check(self.prepare(few)(), self.expected(few))

    def loader(self) -> Iterator[Batch]:
        """Start the lesson's training DataLoader, shuffled from the seed."""
        generator = torch.Generator().manual_seed(SEED)
        make = make_loaders if self.engine == REFERENCE else self.loaded.make_loaders
        train_loader, _ = make(self.data, self.batch_size, generator=generator, device=self.device)
        return iter(train_loader)

    @cached_property
    def loaded(self) -> Engine:
        """The engine's module; the package of an arm of a comparison may have none."""
        from mnist_loop.engines.contract import load

        return load(self.engine)

    def positions(self, steps: int) -> list[Tensor]:
        """Return the positions in the data set of the first batches of `loader`."""
        generator = torch.Generator().manual_seed(SEED)
        positions: DataLoader[Tensor] = DataLoader(
            range(len(self.data.train)),  # type: ignore[arg-type]  # any sequence serves as a data set
            batch_size=self.batch_size,
            shuffle=True,
            generator=generator,
        )
        return list(islice(positions, steps))

    def in_memory(self, steps: int) -> list[Batch]:
        """Return the first batches of `loader`, made without it, on the device."""
        at = torch.cat(self.positions(steps))
        images = normalise(self.data.train.data[at]).to(self.device, self.dtype)
        labels = self.data.train.targets[at].to(self.device)
        return list(zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True))

    def train(self, batches: Iterator[Batch], dtype: torch.dtype | None = None) -> Callable[[], float]:
        """Return a callable that trains the lesson's model, from its first weights, on ``batches``.

        With a ``dtype`` the lesson's loop trains it, without one the engine.
        """
        if self.engine != REFERENCE and dtype is None:
            return self.train_by_engine(batches)
        model, loss_fn = lesson_model(self.device, dtype or self.dtype), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
        return lambda: train_one_epoch(model, batches, loss_fn, optimizer, self.device)

    def train_by_engine(self, batches: Loader) -> Callable[[], float]:
        """Return a callable that lets the engine train on ``batches``.

        The model stays the same object, with its first weights: compiled code belongs to it.
        """
        model, loss_fn, optimizer = self._trained
        model.load_state_dict(lesson_model(self.device, self.dtype).state_dict())
        optimizer.zero_grad()
        return lambda: self.loaded.train_one_epoch(model, batches, loss_fn, optimizer, self.device)

    @cached_property
    def _trained(self) -> tuple[MLP, nn.Module, torch.optim.Optimizer]:
        model = lesson_model(self.device, self.dtype)
        return model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def expected_training_loss(self, batches: Iterator[Batch]) -> float:
        """Train on ``batches`` in float64; return the mean loss per image."""
        return self.train(((images.double(), labels) for images, labels in batches), torch.float64)()


class InputPipeline(TimedWorkload):
    """The lesson's DataLoader alone: PIL, ToTensor and Normalize, one image at a time."""

    part = "input pipeline"
    trains = False

    def batches(self, steps: int) -> Iterator[Batch]:
        return islice(self.loader(), steps)

    def work_on(self, batches: Iterator[Batch]) -> Callable[[], Batch]:
        def fetch() -> Batch:
            for batch in batches:
                images, labels = (tensor.to(self.device, non_blocking=True) for tensor in batch)
            return images, labels

        return fetch

    def expected(self, steps: int) -> Batch:
        return self.in_memory(steps)[-1]

    def check(self, found: Batch, expected: Batch, steps: int = 1) -> None:  # noqa: ARG002  # it is exact
        if not all(map(torch.equal, found, expected)):
            raise WrongResult(f"{self.part}: the last batch is not made of the images and labels at its positions")


class StepWorkload(TimedWorkload):
    """The training step alone, on batches in the device's memory."""

    part = "step"
    most_steps = STEPS_IN_MEMORY

    @cached_property
    def waiting(self) -> list[Batch]:
        return self.in_memory(max(1, IMAGES_IN_MEMORY // self.batch_size))

    def batches(self, steps: int) -> Iterator[Batch]:
        return islice(cycle(self.waiting), steps)

    def work_on(self, batches: Iterator[Batch]) -> Callable[[], float]:
        return self.train(batches)

    def expected(self, steps: int) -> float:
        return self.expected_training_loss(self.batches(steps))


class EndToEnd(TimedWorkload):
    """A part of a training epoch of the lesson: DataLoader and step by turns."""

    part = "end to end"

    def batches(self, steps: int) -> Iterator[Batch]:
        return islice(self.loader(), steps)

    def work_on(self, batches: Iterator[Batch]) -> Callable[[], float]:
        return self.train(batches)

    def expected(self, steps: int) -> float:
        return self.expected_training_loss(iter(self.in_memory(steps)))


class EpochWorkload(EndToEnd):
    """A short epoch with the engine's own loader and loop, on as many images as a block has."""

    part = "epoch"

    @property
    def name(self) -> str:
        return f"{self.engine} epoch"

    def block(self, steps: int) -> int:
        """Return about as many, such that the engine compiles the same number of steps for every length of a block."""
        if steps == 1:
            return steps
        return min(self.most_steps, 1 + self.at_once * math.ceil((steps - 1) / self.at_once))

    def prepare(self, steps: int) -> Callable[[], float]:
        model, loss_fn, optimizer = self._trained
        loader, _ = self.loaded.make_loaders(
            self._first(steps),
            self.batch_size,
            generator=torch.Generator().manual_seed(SEED),
            device=self.device,
        )
        began = time.perf_counter()
        self.loaded.prepare(model, loader, loss_fn, optimizer, self.device)
        self.prepare_s = max(self.prepare_s, time.perf_counter() - began)
        return self.train_by_engine(loader)

    def expected(self, steps: int) -> float:
        return EndToEnd(self._first(steps), self.batch_size, self.device, self.dtype).expected(steps)

    def _first(self, steps: int) -> Data:
        """Return the data set with the images of ``steps`` batches alone."""
        train = copy.copy(self.data.train)
        images = steps * self.batch_size
        train.data, train.targets = train.data[:images], train.targets[:images]
        return replace(self.data, train=train)


class EvaluationWorkload(StepWorkload):
    """Evaluation alone: forward and loss in eval mode, on the batches of the step."""

    part = EVALUATION
    trains = False

    def work_on(self, batches: Iterator[Batch]) -> Callable[[], float]:
        model, loss_fn = lesson_model(self.device, self.dtype), nn.CrossEntropyLoss()
        return lambda: evaluate(model, batches, loss_fn, self.device).loss

    def expected(self, steps: int) -> float:
        model, loss_fn = lesson_model(self.device, torch.float64), nn.CrossEntropyLoss()
        batches = ((images.double(), labels) for images, labels in self.batches(steps))
        return evaluate(model, batches, loss_fn, self.device).loss


KINDS: tuple[type[TimedWorkload], ...] = (InputPipeline, StepWorkload, EndToEnd, EvaluationWorkload)


def lesson_model(device: torch.device, dtype: torch.dtype = torch.float32) -> MLP:
    """Make the lesson's MLP with the same weights at each call, without drawing from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return MLP().to(device, dtype)
