"""One training for each target and seed, each a line of the file."""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnist_loop.bench import machine
from mnist_loop.compare.journal import Journal, records
from mnist_loop.data import MNIST, Data
from mnist_loop.engines import contract as engines
from mnist_loop.errors import UserError

from .recipes import Recipe

KIND = "mnist_loop_accuracy"
SCHEMA = 1
VALIDATION = 10_000  # images at the end of the training set, on which the recipes were chosen
FALLBACK = "resident"
DEVICE = torch.device("cpu")
CACHE = "TORCHINDUCTOR_CACHE_DIR"

Say = Callable[[str], object]


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        target: test accuracy that the recipe aims at, in per cent.
        seed: of the weights and of the order of the images.
        engine: name of the engine.
        epochs: number of epochs.
        accuracy: share of the held-out images (0 to 1) that are labelled right after the last epoch.
        train_s: seconds of all epochs, normalisation of the images included.
        prepare_s: seconds of the engine's preparation before.
        evaluate_s: seconds of the evaluation after.
        first: whether it is the first of its target in this process, with nothing compiled before.
    """

    target: int
    seed: int
    engine: str
    epochs: int
    accuracy: float
    train_s: float
    prepare_s: float
    evaluate_s: float
    first: bool


@dataclass
class AccuracyBenchmark:
    """All targets and seeds.

    Args:
        recipes: one for each target.
        seeds: number of seeds, from 0.
        data: training and test images.
        engine: name of the engine; by default each recipe's own.
        validation: whether the last images of the training set are held out, and the test set is left alone.
    """

    recipes: Sequence[Recipe]
    seeds: int
    data: Data
    engine: str | None = None
    validation: bool = False

    def head(self) -> dict[str, Any]:
        """Return the first line of the file: machine, software, and what all lines share."""
        return {
            KIND: SCHEMA,
            "data": self.data.name,
            "validation": self.validation,
            "threads": torch.get_num_threads(),
            "engine": self.engine,
            "recipes": [recipe.facts() for recipe in self.recipes],
            "machine": machine.identity(),
            "software": machine.software(),
            "state": machine.current_state(),
        }

    def run(self, path: Path, say: Say) -> None:
        """Train what ``path`` does not hold yet; write each result at once.

        All targets of a seed are trained before the next seed, so that a load on the machine hits them alike.

        Raises:
            UserError: the file cannot be written, or holds results of another setting.
        """
        head = self.head()
        known = _go_on(path, head) if path.exists() else None
        done = {(result.target, result.seed) for result in known or []}
        data = held_out(self.data) if self.validation else self.data
        journal = Journal(path)
        try:
            if known is None:
                journal.write(head)
            else:
                journal.mend()
            trainers = [_Trainer(recipe, self.engine or recipe.engine, data, say) for recipe in self.recipes]
            with nothing_compiled_yet():
                for seed in range(self.seeds):
                    for trainer in trainers:
                        if (trainer.recipe.target, seed) not in done:
                            result = trainer.train(seed)
                            journal.write(asdict(result))
                            say(_line(result))
        finally:
            journal.close()


class _Trainer:
    """Trains one recipe with each seed, by another engine if its own cannot."""

    def __init__(self, recipe: Recipe, engine: str, data: Data, say: Say) -> None:
        self.recipe, self.engine, self.data, self.say = recipe, engine, data, say
        self.first = True

    def train(self, seed: int) -> Training:
        try:
            result = train_recipe(self.recipe, seed, self.engine, self.data, first=self.first)
        except engines.Unsuitable as error:
            if self.engine == FALLBACK:
                raise
            self.say(f"{self.recipe.target} %: {error}; going on with {FALLBACK}")
            self.engine = FALLBACK
            return self.train(seed)
        self.first = False
        return result


def train_recipe(recipe: Recipe, seed: int, engine_name: str, data: Data, *, first: bool = False) -> Training:
    """Train ``recipe`` from ``seed``; look at the test split of ``data`` once, after the last epoch.

    Raises:
        Unsuitable: the engine cannot train it.
    """
    engine = engines.load(engine_name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, loss_fn = recipe.model(), nn.CrossEntropyLoss()
        optimizer = recipe.optimizer(model.parameters(), lr=recipe.rates[0], **recipe.options)
        # With the training split as test split too: no test image is read.
        loader, _ = engine.make_loaders(replace(data, test=data.train), recipe.batch_size, device=DEVICE)

        began = time.perf_counter()
        for rate in dict.fromkeys(recipe.rates):  # the compiler treats a learning rate as a constant
            _set_rate(optimizer, rate)
            engine.prepare(model, loader, loss_fn, optimizer, DEVICE)
        prepared = time.perf_counter()
        for rate in recipe.rates:
            _set_rate(optimizer, rate)
            engine.train_one_epoch(model, loader, loss_fn, optimizer, DEVICE)
        trained = time.perf_counter()
        _, test_loader = engine.make_loaders(data, recipe.batch_size, device=DEVICE)
        accuracy = engine.evaluate(model, test_loader, loss_fn, DEVICE).accuracy
        evaluated = time.perf_counter()
    return Training(
        target=recipe.target,
        seed=seed,
        engine=engine_name,
        epochs=len(recipe.rates),
        accuracy=accuracy,
        train_s=trained - prepared,
        prepare_s=prepared - began,
        evaluate_s=evaluated - trained,
        first=first,
    )


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def held_out(data: Data, images: int = VALIDATION) -> Data:
    """Return the training split alone, its last images in the place of the test split.

    Raises:
        UserError: there are no more images than that.
    """
    kept = len(data.train.data) - images
    if kept <= 0:
        raise UserError(f"{len(data.train.data)} training images found, expected more than the {images} held out")
    return replace(data, train=_part(data.train, slice(0, kept)), test=_part(data.train, slice(kept, None)))


def _part(split: MNIST, which: slice) -> MNIST:
    part = copy.copy(split)
    part.data, part.targets = split.data[which], split.targets[which]
    return part


@contextmanager
def nothing_compiled_yet() -> Iterator[None]:
    """Let the compiler use a new folder for its cache."""
    before = os.environ.get(CACHE)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ[CACHE] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[CACHE]
            else:
                os.environ[CACHE] = before


def read_trainings(path: Path) -> tuple[dict[str, Any], list[Training]]:
    """Read a file: its first line, and its results. An incomplete last line is left out.

    Raises:
        UserError: it cannot be read, or is no result of this command.
    """
    expected = f"expected what python -m {__package__} stored"
    try:
        lines, _ = records(path.read_bytes())
        if not lines or not isinstance(lines[0], dict) or lines[0].get(KIND) != SCHEMA:
            raise UserError(f"{path}: not of this kind and version, {expected}")
        return lines[0], [Training(**line) for line in lines[1:]]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), {expected}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}), {expected}") from error


def _go_on(path: Path, head: dict[str, Any]) -> list[Training]:
    """Return the results in ``path``, to which more can then be added.

    Raises:
        UserError: it cannot be read, or holds results of another setting.
    """
    stored, results = read_trainings(path)
    for name in ("data", "validation", "threads", "engine", "recipes", "machine", "software"):
        if stored[name] != head[name]:
            raise UserError(f"{path}: holds results of other {name}; go on as they were made, or name another file")
    return results


def _line(result: Training) -> str:
    return (
        f"{result.target} %  seed {result.seed}  accuracy {result.accuracy:.4f}  trained {result.train_s:.2f} s  "
        f"prepared {result.prepare_s:.1f} s  evaluated {result.evaluate_s:.2f} s  {result.engine}"
    )
