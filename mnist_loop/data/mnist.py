"""The data: MNIST from disk or download, else the stand-in `Digits`; and the lesson's DataLoaders."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from mnist_loop.data import idx
from mnist_loop.data.digits import Digits
from mnist_loop.data.vision import datasets, transforms
from mnist_loop.errors import DataError
from mnist_loop.support.files import publish, staging_folder

ENVIRONMENT_VARIABLE = "MNIST_LOOP_DATA"
DEFAULT_ROOT = Path("data")
DOWNLOAD_TIMEOUT_S = 5.0  # without data, for each of two mirrors; a server that works answers within one second

# The published MD5 of the four unpacked files.
MNIST_CHECKSUMS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

Pairs = Dataset[tuple[torch.Tensor, int]]
PairLoader = DataLoader[tuple[torch.Tensor, torch.Tensor]]


def normalisation() -> transforms.Compose:
    """Return the lesson's transform: a PIL image (0 to 255) becomes a float tensor 1 x 28 x 28 (-1 to 1)."""
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Apply `normalisation` to uint8 images (N, 28, 28) at once; return floats (N, 1, 28, 28), bitwise the same.

    (x / 255 - 0.5) / 0.5 is rounded like x / 127.5 - 1, because doubling a float is exact.
    """
    return images.unsqueeze(1).float().div_(127.5).sub_(1)


class MNIST(datasets.MNIST):  # type: ignore[misc]  # torchvision is untyped: MNIST is Any
    """torchvision's MNIST, read only from the files in ``raw``, which were checked."""

    def _check_legacy_exist(self) -> bool:
        return False  # else torchvision prefers files of its old releases in ``processed``


@dataclass(frozen=True)
class Data:
    """A data set, with the name and the note that results carry.

    Attributes:
        name: ``"MNIST"``, ``"Digits"``, or ``"MNIST (modified)"`` if the checksums are not those of MNIST.
        root: the folder that torchvision reads from.
        train, test: the two splits, as torchvision's data sets with the lesson's transform.
        note: one line for the user: which data, from where, and which places had none.
    """

    name: str
    root: Path
    train: datasets.MNIST
    test: datasets.MNIST
    note: str


def load_data(where: str | Path | None = None, *, download: bool = True) -> Data:
    """Find MNIST, download it, or fall back to `Digits`.

    MNIST is looked for in ``where`` alone if that is a folder, else in ``$MNIST_LOOP_DATA``, then in ``./data``. A
    download is written to the first of these. The note of the result says what was found.

    Args:
        where: a folder with ``MNIST/raw`` in it; or ``"mnist"``: never the stand-in; or ``"digits"``: the stand-in.
        download: whether MNIST may be downloaded.

    Raises:
        DataError: the folder does not exist, a file is broken, or there is no MNIST and ``where`` is ``"mnist"``.
    """
    if where == "digits":
        return _digits(DEFAULT_ROOT, "")
    refuse_digits = where == "mnist"
    places = _places(None if refuse_digits else where)
    for place, told_by in places:
        if _has_mnist(place):
            passed_over = [f"{other} ({why})" for other, why in places[: places.index((place, told_by))]]
            return _mnist(place, told_by, passed_over)
    target = places[0][0]
    try:
        if not download:
            raise DataError("no download was asked for")
        download_mnist(target)
    except DataError as error:
        looked_in = ", ".join(f"{place} ({why})" for place, why in places)
        if refuse_digits:
            raise DataError(f"no MNIST in {looked_in}, and {error}: give its folder, or --data digits") from error
        return _digits(DEFAULT_ROOT, f"no MNIST in {looked_in}, and {error}")
    return _mnist(target, "downloaded", [])


def make_loaders(
    data: Data,
    batch_size: int = 64,
    *,
    generator: torch.Generator | None = None,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[PairLoader, PairLoader]:
    """Make the lesson's two DataLoaders: train is shuffled in each epoch, test keeps its order.

    Args:
        data: the data set.
        batch_size: images in a batch; the last one may be smaller.
        generator: shuffles the training data; by default torch's global one, as in the lesson.
        workers: processes that load data; 0 loads in this process.
        device: where the batches will be moved; for CUDA they are in pinned memory.

    Returns:
        The loaders of train and test. Iterating over the second one does not draw from the global generator.
    """
    pin_memory = torch.device(device).type == "cuda"
    train_loader: PairLoader = DataLoader(
        data.train,
        batch_size=batch_size,
        shuffle=True,
        generator=generator,
        num_workers=workers,
        pin_memory=pin_memory,
    )
    test_loader: PairLoader = DataLoader(
        data.test,
        batch_size=batch_size,
        shuffle=False,
        generator=torch.Generator(),  # else iterating would draw from the global generator
        num_workers=workers,
        pin_memory=pin_memory,
    )
    return train_loader, test_loader


def download_mnist(root: Path) -> None:
    """Download MNIST with torchvision into ``root``, completely or not at all, and check its checksums.

    Raises:
        DataError: no mirror answered, the checksums differ, or ``root`` cannot be written.
    """
    try:
        # Some releases of torchvision print to stdout, which is for results.
        with staging_folder(root) as folder, _socket_timeout(DOWNLOAD_TIMEOUT_S), redirect_stdout(sys.stderr):
            _fetch(folder)
            publish([folder / name for name in idx.ALL_FILES], root / "MNIST" / "raw")
    except OSError as error:
        raise DataError(f"the download to {root} failed ({error})") from error


def _fetch(folder: Path) -> None:
    """Download and unpack the four files. A mirror that fails once is not tried again.

    torchvision's own download does not try the second mirror after some errors of the first.

    Raises:
        OSError: says how each mirror failed.
    """
    reasons = []
    for mirror in datasets.MNIST.mirrors:
        try:
            for archive, md5 in datasets.MNIST.resources:
                datasets.utils.download_and_extract_archive(mirror + archive, str(folder), filename=archive, md5=md5)
            return
        except (OSError, RuntimeError, EOFError, ValueError, HTTPException) as error:
            reasons.append(" ".join(str(error).split()) or type(error).__name__)
    raise OSError("; ".join(dict.fromkeys(reasons)))  # each once


def _places(where: str | Path | None) -> list[tuple[Path, str]]:
    places = []
    if where is not None:
        places.append((_expand_user(where), "as given"))
        try:
            found = "" if places[0][0].is_dir() else "no such folder for the data"
        except OSError as error:
            found = f"cannot be read ({error.strerror})"
        if found:
            raise DataError(f"{where}: {found}, expected one that holds MNIST/raw, or the word mnist or digits")
        return places  # another one would not be what was asked for
    if os.environ.get(ENVIRONMENT_VARIABLE):
        places.append((_expand_user(os.environ[ENVIRONMENT_VARIABLE]), f"${ENVIRONMENT_VARIABLE}"))
    places.append((DEFAULT_ROOT, "default"))
    return places


def _expand_user(path: str | Path) -> Path:
    # As torchvision does, so that both mean the same folder.
    return Path(os.path.expanduser(path))  # noqa: PTH111  # Path.expanduser fails for an unknown user


def _has_mnist(root: Path) -> bool:
    raw = root / "MNIST" / "raw"
    try:
        found = {file.name for file in raw.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DataError(f"{raw}: cannot be read ({error.strerror}), expected the four files of MNIST") from error
    # One file is enough: a half-copied folder is an error, not a folder without MNIST.
    return not found.isdisjoint(idx.ALL_FILES)


def _mnist(root: Path, told_by: str, passed_over: list[str]) -> Data:
    checksums = idx.check_folder(root / "MNIST" / "raw")
    name = "MNIST" if checksums == MNIST_CHECKSUMS else "MNIST (modified)"
    note = f"data: {name} from {root} ({told_by})"
    if name != "MNIST":
        note += "; its checksums are not those of the published files"
    if passed_over:
        note += f"; none in {', '.join(passed_over)}"
    return _open(MNIST, name, root, note)


def _digits(root: Path, reason: str) -> Data:
    files = [root / "Digits" / "raw" / name for name in idx.ALL_FILES]
    there = all(file.is_file() for file in files)
    Digits(str(root), train=True, download=True)
    note = f"data: Digits, the built-in stand-in, from {root}"
    if reason:
        note += f"; {reason}"
    if not there:
        note += f"; {sum(file.stat().st_size for file in files) / 1e6:.0f} MB were written there"
    return _open(Digits, "Digits", root, note)


def _open(dataset: type[datasets.MNIST], name: str, root: Path, note: str) -> Data:
    train = dataset(str(root), train=True, transform=normalisation())
    test = dataset(str(root), train=False, transform=normalisation())
    return Data(name, root, train, test, note)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
