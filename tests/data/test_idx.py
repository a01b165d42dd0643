"""IDX files: what is written is what torchvision reads, and each kind of broken file is one sentence."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from mnist_loop.data import idx
from mnist_loop.data.vision import datasets
from mnist_loop.errors import DataError
from tests import small_mnist

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = idx.ALL_FILES
HEADER = 16  # bytes before the images

# torchvision reads one to three dimensions. Few elements: what matters is their number, order and value.
shapes = numpy_st.array_shapes(min_dims=1, max_dims=3, max_side=6)
arrays = numpy_st.arrays(np.uint8, shapes)
# Enough for two digits, few enough to be quick.
counts = st.integers(1, 12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four sound files."""
    small_mnist.write(tmp_path / "raw", small_mnist.contents())
    return tmp_path / "raw"


# What is written is read


@given(array=arrays, turned=st.booleans())
def test_torchvision_reads_what_is_encoded(tmp_path_factory: pytest.TempPathFactory, array, turned):
    """Any shape and any values come back from torchvision's own reader, however they lay in memory."""
    array = array.T if turned else array
    file = tmp_path_factory.mktemp("idx", numbered=True) / "file"
    file.write_bytes(idx.encode(array))
    found = read_sn3_pascalvincent_tensor(str(file)).numpy()
    assert found.dtype == np.uint8
    assert np.array_equal(found, array)


@given(train=counts, test=counts, seed=st.integers(0, 2**32 - 1))
def test_a_folder_that_is_sound_is_read_by_torchvision(tmp_path_factory: pytest.TempPathFactory, train, test, seed):
    """Images and labels of any number pass the check, and torchvision reads each of them from its own file."""
    root = tmp_path_factory.mktemp("root", numbered=True)
    random = np.random.RandomState(seed)
    written = {}
    for split, count in {"train": train, "test": test}.items():
        images, labels = idx.file_names(split)
        written[images] = random.randint(0, 256, (count, 28, 28)).astype(np.uint8)
        written[labels] = random.randint(0, 10, count).astype(np.uint8)
    files = {name: idx.encode(array) for name, array in written.items()}
    small_mnist.write(root / "MNIST" / "raw", files)
    found = idx.check_folder(root / "MNIST" / "raw")
    assert found == {name: small_mnist.md5(content) for name, content in files.items()}
    for split in idx.SPLITS:
        images, labels = idx.file_names(split)
        read = datasets.MNIST(str(root), train=split == "train")
        assert np.array_equal(read.data.numpy(), written[images])
        assert np.array_equal(read.targets.numpy(), written[labels])


# What is broken is told


def header(*shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, idx.UINT8, len(shape), *shape)


def images(count: int, *pixels: int) -> bytes:
    return idx.encode(np.zeros((count, *pixels), np.uint8))


def labels(*values: int) -> bytes:
    return idx.encode(np.array(values, np.uint8))


WHOLE = HEADER + 100 * 28 * 28
MAGIC_3, MAGIC_1 = "expected 00000803 (IDX of uint8)", "expected 00000801 (IDX of uint8)"
TEN = list(range(10))

# What is done to a file -> what is said of it, after its path.
BROKEN: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty": (IMAGES, lambda _: b"", f"starts with nothing, {MAGIC_3}"),
    "three bytes": (LABELS, lambda file: file[:3], f"starts with 000008, {MAGIC_1}"),
    "the magic number alone": (IMAGES, lambda file: file[:4], "4 bytes, expected a header of 16"),
    "half a header": (LABELS, lambda file: file[:6], "6 bytes, expected a header of 8"),
    "header alone": (IMAGES, lambda file: file[:16], f"truncated, 16 bytes found, {WHOLE} expected from its header"),
    "last byte missing": (
        IMAGES,
        lambda file: file[:-1],
        f"truncated, {WHOLE - 1} bytes found, {WHOLE} expected from its header",
    ),
    "a byte too many": (
        TEST_LABELS,
        lambda file: file + b"\0",
        "too long, 29 bytes found, 28 expected from its header",
    ),
    "gzip under the plain name": (
        IMAGES,
        gzip.compress,
        f"starts with 1f8b0800, which is gzip: unpack it, {MAGIC_3}",
    ),
    "a web page": (LABELS, lambda _: b"<!DOCTYPE html>", f"starts with 3c21444f, {MAGIC_1}"),
    "another type of element": (
        IMAGES,
        lambda file: b"\0\0\x0d\3" + file[4:],
        f"starts with 00000d03, {MAGIC_3}",
    ),
    "images in the labels' place": (LABELS, lambda _: images(100, 28, 28), f"starts with 00000803, {MAGIC_1}"),
    "labels in the images' place": (TEST_IMAGES, lambda _: labels(*TEN), f"starts with 00000801, {MAGIC_3}"),
    # 2**31 * 2**31 * 4 is 0 in 64 bits, and all of these together are far more than the file has.
    "dimensions that overflow": (
        IMAGES,
        lambda _: header(2**31, 2**31, 4),
        f"truncated, 16 bytes found, {HEADER + 2**64} expected from its header",
    ),
    "the largest dimensions": (
        IMAGES,
        lambda _: header(2**32 - 1, 2**32 - 1, 2**32 - 1),
        f"truncated, 16 bytes found, {HEADER + (2**32 - 1) ** 3} expected from its header",
    ),
    "largest dimensions around a zero": (
        IMAGES,
        lambda _: header(2**32 - 1, 0, 2**32 - 1),
        "images of 0 x 4294967295 pixels, expected 28 x 28",
    ),
    "images of 27 x 28": (IMAGES, lambda _: images(100, 27, 28), "images of 27 x 28 pixels, expected 28 x 28"),
    "images of 28 x 29": (TEST_IMAGES, lambda _: images(20, 28, 29), "images of 28 x 29 pixels, expected 28 x 28"),
    "no images": (TEST_IMAGES, lambda _: images(0, 28, 28), "no images, expected at least one"),
    "a label too few": (
        LABELS,
        lambda _: labels(*[0] * 99),
        f"99 labels, expected 100, one for each image in {IMAGES}",
    ),
    "a label too many": (
        LABELS,
        lambda _: labels(*[0] * 101),
        f"101 labels, expected 100, one for each image in {IMAGES}",
    ),
    "no labels": (TEST_LABELS, lambda _: labels(), f"0 labels, expected 20, one for each image in {TEST_IMAGES}"),
    "the other split's labels": (
        LABELS,
        lambda _: labels(*TEN * 2),
        f"20 labels, expected 100, one for each image in {IMAGES}",
    ),
    "a label of ten": (TEST_LABELS, lambda _: labels(*TEN, *TEN[1:], 10), "label 10 at position 19, expected 0 to 9"),
    "many labels above nine": (
        LABELS,
        lambda _: labels(*[3] * 50, 11, *[255] * 49),
        "label 11 at position 50, expected 0 to 9",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_one_sentence(folder: Path, what: str) -> None:
    """The sentence has the file, what was found, and what was expected."""
    name, change, message = BROKEN[what]
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(DataError) as caught:
        idx.check_folder(folder)
    assert str(caught.value) == f"{folder / name}: {message}"


@pytest.mark.parametrize("name", idx.ALL_FILES)
def test_each_of_the_four_files_is_asked_for(folder: Path, name: str) -> None:
    """A file that is not there is named."""
    (folder / name).unlink()
    with pytest.raises(DataError) as caught:
        idx.check_folder(folder)
    assert str(caught.value) == f"{folder / name}: not there, expected an IDX file"


def replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace_by_loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


@pytest.mark.parametrize(
    ("replace", "reason"),
    [(replace_by_folder, "Is a directory"), (replace_by_loop, "Too many levels of symbolic links")],
)
def test_a_file_that_cannot_be_read_is_one_sentence(folder: Path, replace: Callable[[Path], None], reason: str) -> None:
    """What the system says is in the sentence."""
    replace(folder / LABELS)
    with pytest.raises(DataError) as caught:
        idx.check_folder(folder)
    assert str(caught.value) == f"{folder / LABELS}: cannot be read ({reason}), expected an IDX file"


def test_a_forbidden_file_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the permission is missing. Simulated, as root may read everything."""

    def read_bytes(_file: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(DataError) as caught:
        idx.check_folder(folder)
    assert str(caught.value) == f"{folder / IMAGES}: cannot be read (Permission denied), expected an IDX file"


def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder: Path) -> None:
    """It is refused, as a link to a device is."""
    (folder / LABELS).unlink()
    os.mkfifo(folder / LABELS)
    with pytest.raises(DataError, match="no regular file, expected an IDX file"):
        idx.check_folder(folder)
