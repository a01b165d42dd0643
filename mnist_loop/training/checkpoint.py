"""Checkpoints: the whole state of a run, from which it continues as if it had not stopped.

On the CPU with the same number of threads, a resumed run ends with bitwise the same parameters as one that was not
interrupted. Files are written atomically. They are read with ``weights_only``, so loading one runs no code.
"""

from __future__ import annotations

import copy
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mnist_loop.errors import CheckpointError
from mnist_loop.loop import Epoch
from mnist_loop.support.files import write_atomically

FORMAT = "mnist_loop checkpoint 1"

# What zipfile, pickle and torch raise for a damaged file, or a file of another kind.
UNREADABLE = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    AssertionError,
    RecursionError,
    MemoryError,
    struct.error,
    zlib.error,
)


@dataclass
class Checkpoint:
    """The state of a run between two epochs.

    Attributes:
        settings: what the run was started with (batch size, learning rate, seed, data, threads, ...).
        history: the finished epochs.
        model, optimizer: their state dicts.
        rng: states of torch's global generators, for the CPU and for each CUDA device.
    """

    settings: dict[str, Any]
    history: list[Epoch]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    rng: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def capture(
        cls,
        model: nn.Module,
        optimizer: Optimizer,
        history: list[Epoch],
        settings: Mapping[str, Any],
    ) -> Checkpoint:
        """Copy a run's state and the state of torch's global generators."""
        rng = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        }
        state = copy.deepcopy((model.state_dict(), optimizer.state_dict()))  # state_dict() shares its tensors
        return cls(dict(settings), list(history), *state, rng)

    def restore(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Restore the state, also of torch's global generators.

        Raises:
            CheckpointError: the state is of another model or optimizer. A part of it may have been restored.
        """
        try:
            model.load_state_dict(self.model)
            optimizer.load_state_dict(self.optimizer)
            torch.set_rng_state(self.rng["cpu"])
            if self.rng["cuda"] and len(self.rng["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(self.rng["cuda"])
        except UNREADABLE as error:
            raise CheckpointError(
                "the checkpoint is of another model or optimizer than this version trains: start anew"
            ) from error

    def save(self, path: Path) -> None:
        """Write the checkpoint to ``path``, completely or not at all.

        Raises:
            CheckpointError: it cannot be written. A file at ``path`` is unchanged then.
        """
        content = io.BytesIO()
        history = [asdict(epoch) for epoch in self.history]
        torch.save({"format": FORMAT, **vars(self), "history": history}, content)
        try:
            write_atomically(path, content.getvalue())
        except OSError as error:
            kept = "; the file there is as it was" if path.is_file() else ""
            raise CheckpointError(f"{path}: cannot be written ({error.strerror}){kept}") from error

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint that `save` wrote, onto the CPU.

        Raises:
            CheckpointError: the file does not exist, cannot be read, or is not a checkpoint.
        """
        expected = "expected a file that mnist-loop train --save wrote"
        try:
            whole = path.read_bytes()
            with zipfile.ZipFile(io.BytesIO(whole)) as archive:
                damaged = archive.testzip()  # torch.load does not check the checksums
            if damaged is not None:
                raise ValueError(f"{damaged} is damaged")
            content = torch.load(io.BytesIO(whole), map_location="cpu", weights_only=True)
            if content.pop("format") != FORMAT:
                raise ValueError("another format")
            content["history"] = [Epoch(**epoch) for epoch in content["history"]]
            _check_history(content["history"])
            return cls(**content)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror}), {expected}") from error
        except UNREADABLE as error:
            raise CheckpointError(f"{path}: not a checkpoint of this version, or damaged; {expected}") from error


def _check_history(history: list[Epoch]) -> None:
    for epoch in history:
        figures = epoch.train_loss, epoch.test_loss, epoch.test_accuracy
        if type(epoch.epoch) is not int or not all(type(one) is float for one in figures):
            raise ValueError("a history of another kind")
