"""Small files in MNIST's format and under its names, and a small stand-in for Digits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_loop.data import idx
from mnist_loop.data.vision import datasets

SIZES = {"train": 100, "test": 20}


def arrays(seed: int = 0) -> dict[str, npt.NDArray[np.uint8]]:
    """Images of random pixels and their labels, each of 0 to 9 among them, by the name of their file."""
    random = np.random.RandomState(seed)
    found = {}
    for split, size in SIZES.items():
        images, labels = idx.file_names(split)
        found[images] = random.randint(0, 256, (size, *idx.IMAGE_SHAPE)).astype(np.uint8)
        found[labels] = random.permutation(size).astype(np.uint8) % idx.CLASSES
    return found


def contents(seed: int = 0) -> dict[str, bytes]:
    """The same as the bytes of IDX files."""
    return {name: idx.encode(array) for name, array in arrays(seed).items()}


def checksums(seed: int = 0) -> dict[str, str]:
    """The MD5 of each file."""
    return {name: md5(content) for name, content in contents(seed).items()}


def md5(content: bytes) -> str:
    """The MD5 as torchvision writes it."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is made."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


class Digits(datasets.MNIST):  # type: ignore[misc]  # torchvision is untyped: MNIST is Any
    """As `mnist_loop.data.digits.Digits`, but there at once."""

    def __init__(self, root: str, train: bool = True, transform: Any = None, download: bool = False) -> None:
        folder = Path(root) / "Digits" / "raw"
        if download and not folder.exists():
            write(folder, contents(seed=1))
        super().__init__(root, train, transform)
