"""Digits, the built-in stand-in for MNIST: images that look like handwritten digits, drawn from a fixed seed.

It is as hard as MNIST for the lesson. Test accuracy after each epoch, mean of seeds 0 to 2:

              epoch 1  epoch 2  epoch 3  epoch 4  epoch 5
    MNIST       0.892    0.908    0.914    0.921    0.926
    Digits      0.890    0.911    0.916    0.925    0.930

Its pixels have mean 0.131 and standard deviation 0.307; MNIST's have 0.131 and 0.308. All 70,000 images are drawn in
2.5 to 4 seconds on 2 cores of a 2023 Xeon.

Every machine draws the same bits, which a stored checksum verifies. For this, random numbers come only from
`RandomState.random_sample`, whose stream numpy has frozen. The arithmetic is only what IEEE 754 rounds exactly
(+, -, *, /, sqrt, comparisons), one array operation at a time. Sines, powers, matrix products and numpy's sums are not
used: their last bits differ between builds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, reduce
from operator import add
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mnist_loop.data.idx import ALL_FILES, CLASSES, IMAGE_SHAPE, encode, file_names
from mnist_loop.data.vision import datasets
from mnist_loop.errors import DataError
from mnist_loop.support.files import publish, staging_folder

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Point = tuple[float, float]
Span = tuple[int, int, int, int]
Weights = tuple[float, float, float, float]

SIZES = {"train": 60_000, "test": 10_000}
# Of the four files, concatenated in the order of ALL_FILES.
SHA256 = "b071fff97ca58b15abf5ff5b46d86f550705260df7007e87f002681e1ae5a356"

# Each picture shows one way to write a digit. The pen moves through the letters in alphabetical order. It turns sharply
# at a capital, and is lifted where a letter of the alphabet is missing.
PICTURES = {
    0: """
        . . . h a . .     . . h a .     . . . b a . .
        . b . . . . .     . b . . .     . c . . . i .
        . . . . . . g     . . . . g     . . . . . . .
        . . . . . . .     . . . . .     d . . . . . .
        c . . . . . .     c . . . .     . . . . . . .
        . . . . . . .     . . . . f     . . . . . . h
        . d . . . . f     . . . . .     e . . . . . .
        . . . . . . .     . d . . .     . . . . . . .
        . . . e . . .     . . e . .     . . f . g . .
    """,
    1: """
        a     . . a     . . B     . . B . .
        .     . . .     . . .     . . . . .
        .     . . .     a . .     a . . . .
        .     . . .     . . .     . . . . .
        b     . b .     . . .     . . . . .
        .     . . .     . . c     . . c . .
        .     . . .     . . .     . . . . .
        .     . . .     . . .     . . . . .
        c     c . .     . . d     f . d . g
    """,
    2: """
        . . b . . .     . . b c . . .     . b . c . .
        a . . . c .     a . . . d . .     a . . . d .
        . . . . . .     . . . . . . .     . . . . . .
        . . . . d .     . . . . e . .     . . . . e .
        . . . e . .     . . . f . . .     . . . . . .
        . . . . . .     . . . . . . .     . . . f . .
        . f . . . .     . i . . . . .     . . . . . .
        . . . . . .     h . j . . . .     . g i . . .
        G . . h . i     . g . . k . l     H . . . j k
    """,
    3: """
        . . b . . .     a . . . . B     . . b . . .
        a . . . c .     . . . . . .     a . . . c .
        . . . . . .     . . . . . .     . . . . . .
        . . . . d .     . . C . . .     . . . d . .
        . . E . . .     . . . . d .     . e . . . .
        . . . . f .     . . . . . .     . . . f . .
        . . . . . g     . . . . . e     . . . . g .
        i . . . . .     g . . . . .     . . . . . .
        . . . h . .     . . . f . .     i . h . . .
    """,
    4: """
        . a . . . .     a . . . . f     . . . . a .
        . . . . e .     . . . . . .     . . . . e .
        . . . . . .     . . . . . .     . . . . . .
        . . . . . .     b . . . . .     . . . . . .
        . . . . . .     . c . . d .     . . . . . .
        B . . . . c     . . . . . .     B . . . . c
        . . . . . .     . . . . . .     . . . . . .
        . . . . . .     . . . . . .     . . . . . .
        . . . . f .     . . . . . g     . . . . f .
    """,
    5: """
        . a i . . j     . B . . . a     . . b . . a
        . . . . . .     . . . . . .     . . . . . .
        . . . . . .     . . . . . .     . c . . . .
        . B . c . .     . . . d . .     . . . . . .
        . . . . . d     C . . . . .     . . . d . .
        . . . . . .     . . . . . e     . . . . e .
        . . . . . e     . . . . . .     . . . . . .
        g . . . . .     h . . . . .     . . . . f .
        . . . f . .     . . g . f .     h . g . . .
    """,
    6: """
        . . . . a .     . . a . .     . . . b . .
        . . b . . .     . . . . .     . . . . . a
        . . . . . .     . b . . .     . c . . . .
        . c . . . .     . . . . .     . . . . . .
        . . i . h .     c . . . .     . . . . h .
        d . . . . .     . . . h .     d i . . . .
        . j . . . g     d i . . g     . . . . . g
        . e . . . .     . . . . .     . . . . . .
        . . . f . .     . e . f .     . e . . f .
    """,
    7: """
        a . . . . B     a . . . . B     B . . . . C     . . b . . C
        . . . . . .     . . . . . .     . . . . . .     a . . . . .
        . . . . . .     . . . . . .     a . . . . .     . . . . . .
        . . . . . .     . . . . . .     . . . . . .     . . . d . .
        . . . c . .     . f . c . g     . . . d . .     . . . . . .
        . . . . . .     . . . . . .     . . . . . .     . . . . . .
        . . . . . .     . . . . . .     . . . . . .     . . e . . .
        . . . . . .     . . . . . .     . . . . . .     . . . . . .
        . . d . . .     . d . . . .     . . e . . .     . . f . . .
    """,
    8: """
        . . b . a .     . . a e .     . b . a . .
        . . . . . j     . . . . .     . . . . j .
        . c . . . .     b . . . d     c . . . . .
        . . . . i .     . . . . .     . . h i . .
        . . h d . .     . g c k .     . . d . . .
        . . . . . .     . . . . .     g . . . . .
        g . . . e .     h . . . j     . . . . e .
        . . . . . .     . . . . .     . . . . . .
        . . f . . .     . . i . .     . f . . . .
    """,
    9: """
        . . b . a F     . . b . a .     . b . a .
        . . . . . .     . . . . . f     . . . . h
        c . . . . .     c . . . . .     c . . f .
        . . . . e .     . . . . e .     . . . . .
        . d . . . .     . d . . . .     . d e . .
        . . . . g .     . . . . . g     . . . . .
        . . . . . .     . . . . . .     . . . . .
        . . . . . .     j . . . h .     . . . . .
        . . . . h .     . . i . . .     . . . . i
    """,
}

SEEDS = {"train": 1, "test": 2}
CHUNK = 250  # images drawn at a time, with a seed of their own; their pixels fit into the cache of a core
DOTS = 72  # dots of the pen in an image, close enough to look like a line

# How handwriting varies: standard deviations, for a digit of height 2. They were chosen so that the lesson learns
# Digits as fast and as well as MNIST, and the pixels have MNIST's mean and standard deviation.
JITTER = 0.085  # of the place of each letter
BEND = 0.13  # of the coefficients of x^2, xy and y^2 that bend the whole digit
WIDTH = 0.14  # of its width, relative
SHEAR = 0.26  # of its slant, as x over y
SLANT = 0.1  # the mean slant: most people lean to the right
TURN = 0.12  # of its rotation, in radians
CAREFUL, HASTY = 0.65, 1.85  # factors on all of these, from a careful to a hasty writer

# The image, in pixels. As in MNIST, a digit fills a box of 20 x 20 and has its centre of mass in the middle.
BOX = 20.0
SIZE = 0.05  # standard deviation of the box, relative
SHIFT = 0.27  # standard deviation of the centre of mass
PEN = (1.28, 0.3)  # radius of the pen: mean and standard deviation
FINEST_PEN = 0.75
EDGE = 1.1  # width of the grey edge of a line


class Digits(datasets.MNIST):  # type: ignore[misc]  # torchvision is untyped: MNIST is Any
    """The stand-in as a data set. It is used like ``torchvision.datasets.MNIST``, and read by the same code.

    Args:
        root: the files are in ``root/Digits/raw``, unpacked, with the names of MNIST's files.
        train: the 60,000 training images, else the 10,000 test images.
        transform: applied to each PIL image.
        target_transform: applied to each label.
        download: draw them if they are missing or damaged.

    Raises:
        DataError: the files are missing or damaged and ``download`` is false; or they cannot be written; or this
            machine draws wrong bits.
    """

    def __init__(
        self,
        root: str | Path,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool = False,
    ) -> None:
        root = Path(root).expanduser()
        folder = root / type(self).__name__ / "raw"
        if not _intact(folder):
            if not download:
                raise DataError(f"{folder}: no intact Digits there, draw them with download=True")
            _draw_into(folder)
        super().__init__(root, train, transform, target_transform)


def draw(split: str, threads: int | None = None) -> tuple[Bytes, Bytes]:
    """Draw ``"train"`` or ``"test"``: images (N, 28, 28), white on black, and labels (N,).

    ``threads`` changes the time, not the images.
    """
    images = np.empty((SIZES[split], *IMAGE_SHAPE), np.uint8)
    labels = np.empty(SIZES[split], np.uint8)

    def draw_chunk(start: int) -> None:
        chunk = slice(start, min(start + CHUNK, SIZES[split]))
        rng = np.random.RandomState([SEEDS[split], start])
        images[chunk], labels[chunk] = _draw_images(rng, chunk.stop - start)

    _alphabet()  # fills the cache before the threads need it
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(draw_chunk, range(0, SIZES[split], CHUNK)))
    return images, labels


def _draw_into(folder: Path) -> None:
    """Draw all four files and move them into ``folder`` when they are complete and checked.

    Another process may do so at the same time: both move the same bytes to the same place.
    """
    try:
        with staging_folder(folder.parent) as staging:
            for split in SIZES:
                for name, array in zip(file_names(split), draw(split), strict=True):
                    (staging / name).write_bytes(encode(array))
            drawn = _checksum(staging)
            if drawn != SHA256:
                raise DataError(
                    f"Digits drawn with numpy {np.__version__} have the SHA-256 {drawn}, expected {SHA256}: "
                    "use MNIST instead, and report this, it is a bug"
                )
            publish([staging / name for name in ALL_FILES], folder)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{folder}: cannot be written ({reason}), give Digits a folder that can") from error


def _intact(folder: Path) -> bool:
    try:
        return _checksum(folder) == SHA256
    except OSError:
        return False


def _checksum(folder: Path) -> str:
    checksum = hashlib.sha256()
    for name in ALL_FILES:
        checksum.update((folder / name).read_bytes())
    return checksum.hexdigest()


def _draw_images(rng: np.random.RandomState, count: int) -> tuple[Bytes, Bytes]:
    """Draw ``count`` images (count, 28, 28) and their labels (count,)."""
    labels, glyphs = _choose(rng, count)
    haste = rng.random_sample(count)
    careless = CAREFUL + (HASTY - CAREFUL) * haste * haste * haste  # most writers are careful
    x, y = _write(rng, glyphs, careless)
    x, y = _lean(rng, x, y, careless)
    pen = np.maximum(PEN[0] + PEN[1] * _bell(rng, count), FINEST_PEN)
    x, y = _place(rng, x, y, pen)
    return _ink(x, y, pen), labels.astype(np.uint8)


def _choose(rng: np.random.RandomState, count: int) -> tuple[Ints, Ints]:
    """Choose labels (count,), and a glyph for each, as indices (count,) into the alphabet."""
    first, ways = _alphabet().first, _alphabet().ways
    labels = np.floor(rng.random_sample(count) * CLASSES).astype(np.int64)
    return labels, first[labels] + np.floor(rng.random_sample(count) * ways[labels]).astype(np.int64)


def _write(rng: np.random.RandomState, glyphs: Ints, careless: Floats) -> tuple[Floats, Floats]:
    """Write ``glyphs`` with each letter moved a little; return x and y of the dots, each (DOTS, count)."""
    alphabet = _alphabet()
    spans, weights = alphabet.spans[..., glyphs], alphabet.weights[..., glyphs]
    letters = alphabet.letters[..., glyphs]
    letters = letters + careless * JITTER * _bell(rng, *letters.shape)

    def dots(places: Floats) -> Floats:
        return _sum(weights[i] * np.take_along_axis(places, spans[i], axis=0) for i in range(4))

    return dots(letters[0]), dots(letters[1])


def _lean(rng: np.random.RandomState, x: Floats, y: Floats, careless: Floats) -> tuple[Floats, Floats]:
    """Bend, widen, slant and rotate each digit as a whole."""
    count = len(careless)
    bend = careless * BEND * _bell(rng, 6, count)
    x, y = (
        x + bend[0] * x * x + bend[1] * x * y + bend[2] * y * y,
        y + bend[3] * x * x + bend[4] * x * y + bend[5] * y * y,
    )
    x = x * (1 + careless * WIDTH * _bell(rng, count))
    x = x - (SLANT + careless * SHEAR * _bell(rng, count)) * y
    half = (
        careless * TURN * _bell(rng, count) / 2
    )  # tangent of half the angle, from which sine and cosine follow by division
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    return cosine * x - sine * y, sine * x + cosine * y


def _place(rng: np.random.RandomState, x: Floats, y: Floats, pen: Floats) -> tuple[Floats, Floats]:
    """Scale each digit to the box, and move its centre of mass to the middle; return pixels."""
    count = len(pen)
    longest = np.maximum(x.max(axis=0) - x.min(axis=0), y.max(axis=0) - y.min(axis=0))
    scale = (BOX - 2 * pen) * (1 + SIZE * _bell(rng, count)) / longest
    middle = (IMAGE_SHAPE[0] - 1) / 2
    x, y = x * scale, y * scale
    x = x - _sum(x) / DOTS + middle + SHIFT * _bell(rng, count)
    y = y - _sum(y) / DOTS + middle + SHIFT * _bell(rng, count)
    return x, y


def _ink(x: Floats, y: Floats, pen: Floats) -> Bytes:
    """Colour each pixel by its distance to the nearest dot; return images (count, 28, 28)."""
    grid = np.arange(IMAGE_SHAPE[0], dtype=np.float32)[:, np.newaxis]
    nearest = np.full(
        (*IMAGE_SHAPE, len(pen)), np.inf, np.float32
    )  # images are the last axis: numpy is fast with long rows
    distance = np.empty_like(nearest)
    for dot_x, dot_y in zip(x.astype(np.float32), y.astype(np.float32), strict=True):
        right, down = grid - dot_x, grid - dot_y
        np.add((down * down)[:, np.newaxis], (right * right)[np.newaxis], out=distance)
        np.minimum(nearest, distance, out=nearest)
    inside = (pen + EDGE / 2).astype(np.float32) - np.sqrt(nearest)
    grey = np.clip(inside * np.float32(255 / EDGE), 0, 255)
    images: Bytes = np.floor(grey + np.float32(0.5)).astype(np.uint8).transpose(2, 0, 1)
    return images


def _bell(rng: np.random.RandomState, *shape: int) -> Floats:
    """Draw nearly normal numbers with mean 0 and standard deviation 1; none is beyond 3."""
    return 2 * (rng.random_sample(shape) + rng.random_sample(shape) + rng.random_sample(shape)) - 3


def _sum(terms: Iterable[Floats]) -> Floats:
    """Add the terms in their order."""
    total: Floats = reduce(add, terms)
    return total


class Glyph(NamedTuple):
    """One way to write a digit: the letters of its picture, and the pen's dots between them.

    A dot is on the curve between the second and the third of the four letters of its span. Its place is the weighted
    sum of theirs.
    """

    letters: list[Point]  # x to the right, y down, from the middle; y from -1 to 1
    spans: list[Span]  # DOTS of them
    weights: list[Weights]  # DOTS of them


class Alphabet(NamedTuple):
    """All glyphs in the order of their digits, as arrays with the glyphs last."""

    first: Ints  # (10,): the first glyph of each digit
    ways: Ints  # (10,): how many glyphs it has
    letters: Floats  # (2, most letters of a glyph, glyphs)
    spans: Ints  # (4, DOTS, glyphs)
    weights: Floats  # (4, DOTS, glyphs)


@cache
def _alphabet() -> Alphabet:
    glyphs = [[_read(picture) for picture in _side_by_side(PICTURES[digit])] for digit in range(CLASSES)]
    ways = [len(row) for row in glyphs]
    every = [glyph for row in glyphs for glyph in row]
    most = max(len(glyph.letters) for glyph in every)
    padded = [glyph.letters + [(0.0, 0.0)] * (most - len(glyph.letters)) for glyph in every]
    return Alphabet(
        first=np.array([sum(ways[:digit]) for digit in range(CLASSES)], np.int64),
        ways=np.array(ways, np.int64),
        letters=np.array(padded, np.float64).T,
        spans=np.array([glyph.spans for glyph in every], np.int64).T,
        weights=np.array([glyph.weights for glyph in every], np.float64).T,
    )


def _side_by_side(pictures: str) -> Iterable[Sequence[str]]:
    """Split pictures that are side by side, five spaces apart, into the lines of each."""
    return zip(*(line.strip().split(5 * " ") for line in pictures.strip().splitlines()), strict=True)


def _read(picture: Sequence[str]) -> Glyph:
    """Read one picture, given as its lines."""
    cells = sorted(
        (cell.lower(), cell.isupper(), x, y)
        for y, line in enumerate(picture)
        for x, cell in enumerate(line.split())
        if cell != "."
    )
    middle, half = (len(picture[0].split()) - 1) / 2, (len(picture) - 1) / 2
    letters = [((x - middle) / half, (y - half) / half) for _, _, x, y in cells]
    curves: list[list[int]] = [[]]
    for index, (letter, sharp, _, _) in enumerate(cells):
        if index > 0 and ord(letter) > ord(cells[index - 1][0]) + 1:
            curves.append([])
        curves[-1].append(index)
        if sharp:
            curves.append([index])
    spans, weights = zip(*_dots(letters, [span for curve in curves for span in _spans(curve)]), strict=True)
    return Glyph(letters, list(spans), list(weights))


def _spans(curve: list[int]) -> list[Span]:
    """Return the four letters of each piece of a curve; at both ends the outermost letter is repeated."""
    padded = [curve[0], *curve, curve[-1]]
    return list(zip(padded, padded[1:], padded[2:], padded[3:], strict=False))


def _dots(letters: list[Point], spans: list[Span]) -> Iterator[tuple[Span, Weights]]:
    """Spread the dots evenly along the spans, on Catmull-Rom curves."""
    lengths = [_distance(letters[begin], letters[end]) for _, begin, end, _ in spans]
    step = reduce(add, lengths) / DOTS
    span, start = 0, 0.0
    for dot in range(DOTS):
        place = (dot + 0.5) * step
        while place > start + lengths[span]:
            start += lengths[span]
            span += 1
        yield spans[span], _catmull_rom((place - start) / lengths[span])


def _catmull_rom(t: float) -> Weights:
    """Return the weights of four points at ``t``, which goes from 0 at the second to 1 at the third."""
    return (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )


def _distance(a: Point, b: Point) -> float:
    right, down = b[0] - a[0], b[1] - a[1]
    return math.sqrt(right * right + down * down)
