"""The task that every entry trains, as NumPy arrays."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mnist_loop.errors import UserError

if TYPE_CHECKING:
    from mnist_loop.data import Data

Floats = npt.NDArray[np.float32]

PIXELS, HIDDEN, CLASSES = 784, 128, 10
LR = 0.01
DIGITS = "Digits"
SETTINGS = "settings.json"


@dataclass(frozen=True)
class TaskSettings:
    """The settings of the training.

    Attributes:
        images: number of images in an epoch, the first ones of the data set.
        batch_size: images in a batch; the last one may be smaller.
        lr: learning rate.
        seed: of the initial weights and of the order of the images.
        data: name of the data set.
        where: the argument of `mnist_loop.data.load_data`.
    """

    images: int
    batch_size: int
    lr: float
    seed: int
    data: str
    where: str


@dataclass(frozen=True)
class Task:
    """The training of every entry.

    Attributes:
        settings: of the training.
        images: of uint8, (N, 28, 28).
        labels: of int64, (N,).
        w1, b1, w2, b2: initial weights of the two layers, as torch lays them out: (outputs, inputs) and (outputs,).
    """

    settings: TaskSettings
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    w1: Floats
    b1: Floats
    w2: Floats
    b2: Floats

    def floats(self) -> Floats:
        """Return the images flat and as the lesson normalises them, to the bit: (N, 784), from -1 to 1."""
        images = self.images.reshape(-1, PIXELS).astype(np.float32)
        images /= np.float32(255)
        images -= np.float32(0.5)
        images /= np.float32(0.5)
        return images

    def save(self, folder: Path) -> None:
        """Write the task into ``folder``, for other processes."""
        for name, value in vars(self).items():
            if name != "settings":
                np.save(folder / f"{name}.npy", value)
        (folder / SETTINGS).write_text(json.dumps(asdict(self.settings)))


def load_task(folder: Path) -> Task:
    """Read a task that `Task.save` wrote."""
    arrays: dict[str, Any] = {file.stem: np.load(file) for file in folder.glob("*.npy")}
    return Task(TaskSettings(**json.loads((folder / SETTINGS).read_text())), **arrays)


def make_task(data: Data, images: int | None = None, batch_size: int = 64, seed: int = 0) -> Task:
    """Make the task from ``data``, with the initial weights of ``mnist-loop train`` at that seed.

    Raises:
        UserError: more images are asked for than there are.
    """
    import torch

    from mnist_loop.model import MLP

    count = len(data.train.data) if images is None else images
    if count > len(data.train.data):
        raise UserError(f"--images {count}: {data.name} has {len(data.train.data)} to train on, expected at most those")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MLP(PIXELS, HIDDEN, CLASSES)
    w1, b1, w2, b2 = (parameter.detach().numpy() for parameter in model.parameters())
    where = "digits" if data.name == DIGITS else str(data.root)
    return Task(
        TaskSettings(count, batch_size, LR, seed, data.name, where),
        data.train.data[:count].numpy(),
        data.train.targets[:count].numpy(),
        w1,
        b1,
        w2,
        b2,
    )
