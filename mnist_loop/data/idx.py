"""IDX files, the format of MNIST: writing and checking them.

torchvision reads them. They are checked first, because its errors for broken files help little. The format: two zero
bytes, the code of the element type, the number of dimensions, each dimension as a big-endian 32-bit integer, then the
elements.
"""

from __future__ import annotations

import hashlib
import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnist_loop.errors import DataError

UINT8 = 0x08
IMAGE_SHAPE = (28, 28)
CLASSES = 10
SPLITS = {"train": "train", "test": "t10k"}


def file_names(split: str) -> tuple[str, str]:
    """Return the names of the images file and the labels file of ``"train"`` or ``"test"``."""
    prefix = SPLITS[split]
    return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"


ALL_FILES = tuple(name for split in SPLITS for name in file_names(split))


def encode(array: npt.NDArray[np.uint8]) -> bytes:
    """Encode a uint8 array of any shape as the bytes of an IDX file."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, UINT8, array.ndim, *array.shape)
    return header + array.tobytes()


def check_folder(folder: Path) -> dict[str, str]:
    """Check the four files in ``folder``; return the MD5 of each, by name.

    Raises:
        DataError: a file is missing, unreadable, truncated, too long or not IDX, images and labels
            differ in number, an image is not 28 x 28, or a label is above 9.
    """
    checksums = {}
    for split in SPLITS:
        images_file, labels_file = (folder / name for name in file_names(split))
        (images, *pixels), _, checksums[images_file.name] = _read(images_file, dimensions=3)
        _, labels, checksums[labels_file.name] = _read(labels_file, dimensions=1)
        if tuple(pixels) != IMAGE_SHAPE:
            found = " x ".join(map(str, pixels))
            raise DataError(f"{images_file}: images of {found} pixels, expected 28 x 28")
        if images == 0:
            raise DataError(f"{images_file}: no images, expected at least one")
        if images != len(labels):
            raise DataError(
                f"{labels_file}: {len(labels)} labels, expected {images}, one for each image in {images_file.name}"
            )
        if int(labels.max()) >= CLASSES:
            at = int(np.argmax(labels >= CLASSES))
            raise DataError(f"{labels_file}: label {labels[at]} at position {at}, expected 0 to {CLASSES - 1}")
    return checksums


def _read(file: Path, dimensions: int) -> tuple[tuple[int, ...], npt.NDArray[np.uint8], str]:
    """Return the shape in the header, the elements as a flat array, and the MD5 of the whole file."""
    try:
        if file.exists() and not file.is_file() and not file.is_dir():  # a pipe or a device would be waited for
            raise DataError(f"{file}: no regular file, expected an IDX file")
        content = file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{file}: not there, expected an IDX file") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}), expected an IDX file") from error
    start = 4 + 4 * dimensions
    magic = bytes((0, 0, UINT8, dimensions))
    if content[:4] != magic:
        gzip = ", which is gzip: unpack it" if content[:2] == b"\x1f\x8b" else ""
        raise DataError(
            f"{file}: starts with {content[:4].hex() or 'nothing'}{gzip}, expected {magic.hex()} (IDX of uint8)"
        )
    if len(content) < start:
        raise DataError(f"{file}: {len(content)} bytes, expected a header of {start}")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    expected = start + math.prod(shape)  # Python's integers do not overflow
    if len(content) != expected:
        what = "truncated" if len(content) < expected else "too long"
        raise DataError(f"{file}: {what}, {len(content)} bytes found, {expected} expected from its header")
    checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return shape, np.frombuffer(content, np.uint8)[start:], checksum
