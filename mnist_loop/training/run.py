"""One run of the lesson: it is built from its settings, trained with progress and checkpoints, and resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mnist_loop.data import Data
from mnist_loop.engines import contract as engines
from mnist_loop.errors import CheckpointError
from mnist_loop.loop import Epoch, fit
from mnist_loop.model import MLP
from mnist_loop.support.options import LAST_SEED, MOST
from mnist_loop.support.shown import LONGEST, shown
from mnist_loop.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from mnist_loop.support.progress import Progress

LINE_EVERY = 100  # batches, as in the lesson

PATIENCE = {"compiled": "preparing takes up to a minute the first time"}  # by engine

# Settings that a resumed run must share with its checkpoint. The others change only the rounding.
DECISIVE = ("batch_size", "lr", "seed", "data")

# What may stand in the settings of a checkpoint, by the type of a setting: what it is, and whether a value is that.
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "batch_size": ("a whole number of at least 1", lambda value: type(value) is int and 1 <= value <= MOST),
    "lr": ("a number above 0", lambda value: type(value) is float and math.isfinite(value) and value > 0),
    "seed": (f"a whole number up to {LAST_SEED}", lambda value: type(value) is int and 0 <= value <= LAST_SEED),
    "threads": ("a whole number of at least 1", lambda value: type(value) is int and value >= 1),
}
A_NAME = ("a name", lambda value: isinstance(value, str) and len(value) <= LONGEST and value.isprintable())
# Of the optimizer; what else is in its state decides how fast it is.
OF_SGD = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides the result of a run. On the CPU, equal settings give bitwise equal parameters."""

    batch_size: int
    lr: float
    seed: int
    data: str
    device: str
    threads: int
    torch: str
    engine: str = "reference"


def check_settings(settings: Mapping[str, Any]) -> None:
    """See that the settings of a checkpoint are some that a run can have: a person may have changed them.

    Raises:
        CheckpointError: names the setting.
    """
    if not isinstance(settings, Mapping):
        raise CheckpointError(f"its settings are a {type(settings).__name__}, expected settings by name: start anew")
    for field_ in fields(TrainingSettings):
        if field_.name in settings:
            value = settings[field_.name]
            expected, fits = KINDS.get(field_.name, A_NAME)
            if not fits(value):
                raise CheckpointError(
                    f"the {field_.name.replace('_', ' ')} in its settings is {shown(value)}, expected {expected}: "
                    "start anew"
                )


class LossNotFinite(Exception):
    """A loss is infinite or not a number, so that training on is useless."""


@dataclass
class TrainingRun:
    """A run and its state so far, which stays usable when training ends with an exception.

    Args:
        settings: the settings of the run.
        data: the training and test data.
        device: where it trains.
        workers: processes that load data.
        save_to: file for a checkpoint after each epoch.
        history: the finished epochs.
        saved: number of epochs in the last checkpoint.
    """

    settings: TrainingSettings
    data: Data
    device: torch.device
    workers: int = 0
    save_to: Path | None = None
    history: list[Epoch] = field(default_factory=list)
    saved: int | None = None

    def __post_init__(self) -> None:
        settings = self.settings
        torch.manual_seed(settings.seed)
        self.model = MLP().to(self.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=settings.lr)
        self.loss_fn = nn.CrossEntropyLoss()
        self.engine = engines.load(settings.engine)
        self.train_loader, self.test_loader = self.engine.make_loaders(
            self.data, settings.batch_size, workers=self.workers, device=self.device
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Restore the state of ``checkpoint``.

        Raises:
            CheckpointError: its data, seed, batch size or learning rate differ, or the state of its optimizer is of
                another learning rate, say, than its settings.
        """
        for name, here in asdict(self.settings).items():
            there = checkpoint.settings.get(name)
            if name in DECISIVE and here != there:
                raise CheckpointError(
                    f"the checkpoint was trained with {name.replace('_', ' ')} {there}, not {here}: "
                    "go on with that, or start anew"
                )
        here = self._hyperparameters()
        checkpoint.restore(self.model, self.optimizer)
        there = self._hyperparameters()
        for name in here:
            if here[name] != there[name]:
                raise CheckpointError(
                    f"the checkpoint's optimizer has {name} {shown(there[name])}, expected {here[name]}, as its "
                    "settings say: start anew"
                )
        self.history = list(checkpoint.history)

    def _hyperparameters(self) -> dict[str, Any]:
        (group,) = self.optimizer.param_groups
        return {name: group.get(name) for name in OF_SGD}

    def prepare(self, progress: Progress) -> float:
        """Let the engine prepare, which it does once before training; return the seconds that it took.

        Raises:
            Unsuitable: the engine cannot train this here.
        """
        if self.settings.engine in PATIENCE:
            progress.line(f"engine {self.settings.engine}: {PATIENCE[self.settings.engine]}")
        progress.status(f"preparing engine {self.settings.engine}")
        began = time.perf_counter()
        note = self.engine.prepare(self.model, self.train_loader, self.loss_fn, self.optimizer, self.device)
        if note:
            progress.line(f"engine {self.settings.engine}: {note}")
        return time.perf_counter() - began

    def save(self) -> None:
        """Write a checkpoint, if a file was given.

        Raises:
            CheckpointError: it cannot be written.
        """
        if self.save_to is not None:
            settings = asdict(self.settings)
            Checkpoint.capture(self.model, self.optimizer, self.history, settings).save(self.save_to)
            self.saved = len(self.history)

    def train(self, epochs: int, progress: Progress) -> None:
        """Train up to and including epoch ``epochs``; each finished epoch is appended to ``history``.

        Raises:
            LossNotFinite: names the epoch and the batch. That epoch is not saved.
            CheckpointError: the checkpoint cannot be written.
        """
        lines = _Lines(epochs, len(self.train_loader), progress)

        def on_epoch(epoch: Epoch) -> None:
            lines.read_losses()
            if not math.isfinite(epoch.test_loss):  # only this shows a bad last step of an epoch
                raise LossNotFinite(f"the test loss is {epoch.test_loss} after epoch {epoch.epoch}")
            self.history.append(epoch)
            self.save()
            progress.line(
                f"Epoch: {epoch.epoch}/{epochs} | Train loss: {epoch.train_loss:.4f} | "
                f"Test loss: {epoch.test_loss:.4f} | Test accuracy: {epoch.test_accuracy:.4f}"
            )

        to_do = max(0, epochs - len(self.history))
        progress.status("training", total=to_do * (len(self.train_loader) + len(self.test_loader)))
        fit(
            self.model,
            self.train_loader,
            progress.counted(self.test_loader),
            self.loss_fn,
            self.optimizer,
            self.device,
            epochs,
            first_epoch=len(self.history) + 1,
            on_batch=lines.on_batch,
            on_epoch=on_epoch,
            train_one_epoch=self.engine.train_one_epoch,
            evaluate=self.engine.evaluate,
        )


class _Lines:
    """Prints the lesson's line every hundred batches, and checks that all losses are finite.

    Losses are read in groups, because reading one waits for the device.
    """

    def __init__(self, epochs: int, batches: int, progress: Progress) -> None:
        self._epochs, self._batches, self._progress = epochs, batches, progress
        self._unread: list[tuple[int, int, Tensor]] = []

    def on_batch(self, epoch: int, batch: int, loss: Tensor) -> None:
        self._progress.advance()
        self._unread.append((epoch, batch, loss))
        if batch % LINE_EVERY == 0:
            last = self.read_losses()[-1]
            self._progress.line(f"Epoch: {epoch}/{self._epochs} | Batch: {batch}/{self._batches} | Loss: {last:.4f}")

    def read_losses(self) -> list[float]:
        """Read and return the losses since the last call; check that they are finite."""
        unread, self._unread = self._unread, []
        losses: list[float] = torch.stack([loss for _, _, loss in unread]).tolist() if unread else []
        for (epoch, batch, _), loss in zip(unread, losses, strict=True):
            if not math.isfinite(loss):
                raise LossNotFinite(f"the loss is {loss} at batch {batch} of epoch {epoch}")
        return losses
