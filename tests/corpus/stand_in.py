"""Stand-in data: small, drawn from a fixed seed, in the layout that the scripts read."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Maker = Callable[..., None]
MAKERS: dict[str, Maker] = {}
WORDS = ["the", "a", "one", "cat", "dog", "bird", "house", "sees", "likes", "finds", "and", "or", "but"]  # fmt: skip


def make(asked: str, place: Path) -> None:
    """Make the data that ``asked`` names, such as "images 2 20 64", at a place; leave it, if it is there.

    Raises:
        KeyError: there is no such maker.
    """
    name, *numbers = asked.split()
    maker = MAKERS[name]
    done = place.parent / f".{place.name}.{'-'.join(asked.split())}.made"
    if not done.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        maker(place, *[int(one) if one.isdigit() else one for one in numbers])
        done.touch()


def _maker(function: Maker) -> Maker:
    MAKERS[function.__name__] = function
    return function


def _pictures(count: int, size: int, channels: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images in which a class shows as the place of a bright square, and the classes."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = draw.integers(0, 90, (count, size, size, channels), dtype=np.uint8)
    side = max(size // 4, 1)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label) % 16, 4)
        image[row * side : (row + 1) * side, column * side : (column + 1) * side] += 120
    order = draw.permutation(count)
    return images[order], labels[order]


@_maker
def mnist(place: Path, train: int = 640, test: int = 200, name: str = "MNIST") -> None:
    """The four files of MNIST, or of a data set like it, in ``NAME/raw``."""
    raw = place / name / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for part, count, seed in (("train", train, 0), ("t10k", test, 1)):
        images, labels = _pictures(count, 28, 1, 10, seed)
        head = struct.pack(">IIII", 0x803, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, count) + labels.astype(np.uint8).tobytes()
        )


@_maker
def cifar10(place: Path, train: int = 640, test: int = 200) -> None:
    """The batches of CIFAR-10, in ``cifar-10-batches-py``."""
    folder = place / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 6):
        _cifar_batch(folder / f"data_batch_{number}", train // 5, number, "labels", 10)
    _cifar_batch(folder / "test_batch", test, 6, "labels", 10)
    names = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    (place / "cifar-10-python.tar.gz").touch()  # some look for it


@_maker
def cifar100(place: Path, train: int = 640, test: int = 200) -> None:
    """The batches of CIFAR-100, in ``cifar-100-python``."""
    folder = place / "cifar-100-python"
    folder.mkdir(parents=True, exist_ok=True)
    _cifar_batch(folder / "train", train, 1, "fine_labels", 100)
    _cifar_batch(folder / "test", test, 2, "fine_labels", 100)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {n}" for n in range(100)]}))
    (place / "cifar-100-python.tar.gz").touch()


def _cifar_batch(file: Path, count: int, seed: int, labels: str, classes: int) -> None:
    images, classes_of = _pictures(count, 32, 3, classes, seed)
    data = images.transpose(0, 3, 1, 2).reshape(count, -1)
    file.write_bytes(pickle.dumps({"data": data, labels: classes_of.tolist(), "filenames": [""] * count}))


@_maker
def images(place: Path, classes: int = 2, each: int = 40, size: int = 64, channels: int = 3) -> None:
    """A folder of JPEG images for each class."""
    found, labels = _pictures(classes * each, size, channels, classes, 0)
    for number, (image, label) in enumerate(zip(found, labels, strict=True)):
        _save(image, place / f"class{label}" / f"{number}.jpg")


@_maker
def flat_images(place: Path, count: int = 40, size: int = 64, ending: str = "jpg") -> None:
    """A folder of images."""
    found, _ = _pictures(count, size, 3, 4, 0)
    for number, image in enumerate(found):
        _save(image, place / f"{number}.{ending}")


@_maker
def masks(place: Path, count: int = 40, size: int = 64) -> None:
    """A folder of GIF masks of two values, named like the images with ``_mask``."""
    for number in range(count):
        mask = np.zeros((size, size), np.uint8)
        mask[: size // 2] = 1
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask * 255).convert("1").save(place / f"{number}_mask.gif")


@_maker
def image(place: Path, size: int = 128) -> None:
    """One image."""
    found, _ = _pictures(1, size, 3, 4, 0)
    _save(found[0], place)


def _save(pixels: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(file)


@_maker
def text(place: Path, lines: int = 2000, words: int = 12) -> None:
    """A file of sentences of few words."""
    draw = np.random.default_rng(0)
    place.write_text("".join(" ".join(draw.choice(WORDS, words)) + " . \n" for _ in range(lines)))


@_maker
def corpus(place: Path, lines: int = 400) -> None:
    """The three files of a language model's corpus."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("train.txt", "valid.txt", "test.txt"):
        text(place / name, lines)


@_maker
def tokens(place: Path, count: int = 40_000, most: int = 60) -> None:
    """Two binary files of 16-bit tokens, as nanoGPT has them."""
    draw = np.random.default_rng(0)
    place.mkdir(parents=True, exist_ok=True)
    for name in ("train.bin", "val.bin"):
        draw.integers(0, most, count).astype(np.uint16).tofile(place / name)


@_maker
def cora(place: Path, papers: int = 2708, words: int = 1433) -> None:
    """The two files of the citation graph Cora."""
    draw = np.random.default_rng(0)
    place.mkdir(parents=True, exist_ok=True)
    names = "Case_Based Genetic_Algorithms Neural_Networks Probabilistic_Methods Reinforcement_Learning Rule_Learning"
    labels = [*names.split(), "Theory"]
    contents, cites, own = [], [], words // len(labels)
    for paper in range(papers):
        label = paper % 7
        chosen = draw.random(words) < 0.005
        chosen[label * own : label * own + own] |= draw.random(own) < 0.1
        contents.append("\t".join([str(paper), *map(str, chosen.astype(int)), labels[label]]))
        cites += [f"{paper}\t{other}" for other in draw.integers(0, papers, 2) if other != paper]
    (place / "cora.content").write_text("\n".join(contents) + "\n")
    (place / "cora.cites").write_text("\n".join(cites) + "\n")


@_maker
def weights(place: Path, name: str = "resnet18") -> None:
    """The weights of a model of torchvision, untrained, where a pretrained one would be downloaded to."""
    import torch
    import torchvision

    torch.manual_seed(0)
    model = getattr(torchvision.models, name)
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model().state_dict(), place)


@_maker
def folder(place: Path) -> None:
    """An empty folder, for what the script writes."""
    place.mkdir(parents=True, exist_ok=True)


@_maker
def sines(place: Path, curves: int = 100, length: int = 1000) -> None:
    """A file of sine curves, as torch saves an array."""
    import torch

    shifts = np.random.default_rng(0).integers(-80, 80, (curves, 1))
    torch.save(np.sin((np.arange(length) + shifts) / 20.0), place)


@_maker
def mnist_pickle(place: Path, train: int = 640, test: int = 200) -> None:
    """The pickle of MNIST as flat numbers from 0 to 1: three parts, compressed."""
    parts = []
    for count, seed in ((train, 0), (test, 1), (test, 2)):
        images, labels = _pictures(count, 28, 1, 10, seed)
        parts.append((images.reshape(count, 784).astype(np.float32) / 255, labels))
    place.write_bytes(gzip.compress(pickle.dumps(tuple(parts))))
