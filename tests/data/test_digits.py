"""Digits: the same bits everywhere, read by torchvision, never broken on disk, as hard as MNIST."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mnist_loop.data import digits, idx
from mnist_loop.data.digits import Digits, draw
from mnist_loop.errors import DataError
from mnist_loop.model import MLP
from mnist_loop.support.files import publish

SHA256 = "b071fff97ca58b15abf5ff5b46d86f550705260df7007e87f002681e1ae5a356"
FEW = {"train": 1200, "test": 600}  # five chunks and three, the last of each but a part

# The lesson on MNIST, seed 0: test accuracy after each epoch. Seeds differ by half a point; within three,
# whoever learns with Digits sees what MNIST would have shown.
MNIST_ACCURACY = (0.892, 0.908, 0.915, 0.921, 0.929)
AS_HARD_WITHIN = 0.03


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw all of Digits once, into a folder that no test changes."""
    root = tmp_path_factory.mktemp("data")
    Digits(root, download=True)
    return root


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make Digits small, with the checksum to match; return a folder where it lies intact."""
    for split, size in FEW.items():
        monkeypatch.setitem(digits.SIZES, split, size)
    raw(tmp_path).mkdir(parents=True)
    for split in FEW:
        for name, array in zip(idx.file_names(split), draw(split), strict=True):
            (raw(tmp_path) / name).write_bytes(idx.encode(array))
    monkeypatch.setattr(digits, "SHA256", digits._checksum(raw(tmp_path)))
    return tmp_path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute on one thread: for a model this small, more are slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def raw(root: Path) -> Path:
    """Name the folder of the four files."""
    return root / "Digits" / "raw"


def is_intact(root: Path) -> bool:
    """Whether the four files have the checksum and no other file lies there."""
    names = {file.name for file in raw(root).iterdir()}
    return digits._checksum(raw(root)) == digits.SHA256 and names == set(idx.ALL_FILES)


def staged(root: Path) -> list[Path]:
    """List what a drawing left behind beside the files' folder."""
    return [path for path in (root / "Digits").iterdir() if path.name != "raw"]


# What is drawn


def test_every_machine_draws_the_same_bits(root: Path) -> None:
    """The files have the checksum that was found under every version of numpy and torch tried."""
    assert digits.SHA256 == SHA256
    assert digits._checksum(raw(root)) == SHA256


@pytest.mark.parametrize("threads", [2, 5, None])
def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch, threads: int | None) -> None:
    """However many threads draw, the images are those that one draws."""
    monkeypatch.setitem(digits.SIZES, "test", FEW["test"])
    for array, expected in zip(draw("test", threads), draw("test", threads=1), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_few_images_are_the_first_of_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk stands on its own: how many follow does not change it."""
    monkeypatch.setitem(digits.SIZES, "train", 4 * digits.CHUNK)
    images, labels = draw("train")
    whole = Digits(root)
    np.testing.assert_array_equal(images, whole.data[: len(images)])
    np.testing.assert_array_equal(labels, whole.targets[: len(labels)])


def test_the_global_generator_is_neither_used_nor_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing depends on no seed of the caller's, and changes none."""
    monkeypatch.setitem(digits.SIZES, "test", FEW["test"])
    kept = np.random.get_state()
    try:
        np.random.seed(1)
        first, _ = draw("test")
        after_drawing = np.random.random_sample(3)
        np.random.seed(1)
        np.testing.assert_array_equal(after_drawing, np.random.random_sample(3))
        second, _ = draw("test")
        np.testing.assert_array_equal(first, second)
    finally:
        np.random.set_state(kept)


def test_no_image_repeats_within_or_across_the_splits(root: Path) -> None:
    """All 70,000 images differ: nothing that is tested on was trained on."""
    images = np.concatenate([Digits(root, train).data.numpy() for train in (True, False)])
    assert len({image.tobytes() for image in images}) == len(images) == 70_000


@pytest.mark.parametrize("train", [True, False])
def test_labels_are_about_balanced_and_shuffled(root: Path, train: bool) -> None:
    """Labels are drawn evenly, each without regard to the one before."""
    labels = Digits(root, train).targets
    counts = torch.bincount(labels, minlength=10)
    # A count is binomial with p = 1/10: five standard deviations, a chance below 1e-5 over all ten.
    assert (counts - len(labels) / 10).abs().max() < 5 * (len(labels) * 0.09) ** 0.5
    repeats = (labels[1:] == labels[:-1]).sum().item()
    assert abs(repeats - len(labels) / 10) < 5 * (len(labels) * 0.09) ** 0.5


def test_images_are_white_on_black_inside_the_page(root: Path) -> None:
    """Each image has full ink, and few reach the page's edge."""
    images = Digits(root, train=False).data
    assert images.flatten(1).amax(dim=1).min() == 255
    edge = images.clone()
    edge[:, 1:-1, 1:-1] = 0
    assert (edge.flatten(1).amax(dim=1) > 0).double().mean() < 0.1


def test_each_picture_is_read_as_it_stands() -> None:
    """The pen of a 7 with a bar: across, sharply down, lifted, then the bar."""
    seven = digits._read(["a . B", ". . .", "e . f", ". . .", "c . ."])
    assert seven.letters == [(-0.5, -1.0), (0.5, -1.0), (-0.5, 1.0), (-0.5, 0.0), (0.5, 0.0)]
    assert list(dict.fromkeys(seven.spans)) == [(0, 0, 1, 1), (1, 1, 2, 2), (3, 3, 4, 4)]


def test_dots_run_from_the_first_letter_to_the_last() -> None:
    """On a straight line the dots lie in order, close to either end."""
    line = digits._read(["a", "b", "c"])
    dots = [
        sum(weight * line.letters[letter][1] for letter, weight in zip(span, weights, strict=True))
        for span, weights in zip(line.spans, line.weights, strict=True)
    ]
    assert len(dots) == digits.DOTS
    assert dots == sorted(dots)
    assert -1 < dots[0] < -1 + 2 / digits.DOTS
    assert 1 - 2 / digits.DOTS < dots[-1] < 1


# The data set


@pytest.mark.parametrize(("train", "size"), [(True, 60_000), (False, 10_000)])
def test_it_is_used_like_mnist(root: Path, train: bool, size: int) -> None:
    """Sizes, types, transforms and items are those of torchvision's MNIST."""
    data = Digits(root, train, transform=lambda image: image.size, target_transform=str)
    assert len(data) == size
    assert (data.data.shape, data.data.dtype) == ((size, 28, 28), torch.uint8)
    assert (data.targets.shape, data.targets.dtype) == ((size,), torch.int64)
    assert data[0] == ((28, 28), str(int(data.targets[0])))
    image, label = Digits(str(root), train)[1]
    assert isinstance(image, Image.Image)
    assert image.mode == "L"
    assert label == int(data.targets[1])


def test_torchvision_reads_what_was_drawn(few: Path) -> None:
    """What torchvision's reader returns is what was drawn."""
    idx.check_folder(raw(few))
    for split in FEW:
        data = Digits(few, train=split == "train")
        images, labels = draw(split)
        np.testing.assert_array_equal(data.data.numpy(), images)
        np.testing.assert_array_equal(data.targets.numpy(), labels)


def test_without_download_nothing_is_drawn(tmp_path: Path) -> None:
    """Missing files are an error with the way out, and nothing is written."""
    with pytest.raises(DataError, match=r"raw: no intact Digits there, draw them with download=True$"):
        Digits(tmp_path)
    assert list(tmp_path.iterdir()) == []


# What can happen to the files


def flip_a_byte(file: Path) -> None:
    """Change the last byte."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    """Cut off the end."""
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("name", idx.ALL_FILES)
@pytest.mark.parametrize("harm", [flip_a_byte, truncate, Path.unlink])
def test_harmed_files_are_drawn_anew(few: Path, name: str, harm: Callable[[Path], None]) -> None:
    """One wrong byte in any file is noticed, and made good when drawing is allowed."""
    harm(raw(few) / name)
    with pytest.raises(DataError, match="no intact Digits"):
        Digits(few)
    Digits(few, download=True)
    assert is_intact(few)
    assert staged(few) == []


def test_intact_files_are_left_alone(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intact files are not drawn again."""
    monkeypatch.delattr(digits, "draw")
    Digits(few, download=True)


def test_interrupted_publishing_is_made_good(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of files that is new in part is not taken for intact."""

    def publish_one(files: list[Path], folder: Path) -> None:
        publish(files[:1], folder)
        raise KeyboardInterrupt

    for name in idx.ALL_FILES:
        flip_a_byte(raw(few) / name)
    with monkeypatch.context() as patch:
        patch.setattr(digits, "publish", publish_one)
        with pytest.raises(KeyboardInterrupt):
            Digits(few, download=True)
    assert not is_intact(few)
    assert staged(few) == []
    Digits(few, download=True)
    assert is_intact(few)


def test_other_bits_are_refused_and_the_old_files_stay(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that draws other bits says so, and publishes nothing."""
    flip_a_byte(raw(few) / idx.ALL_FILES[0])
    before = digits._checksum(raw(few))
    monkeypatch.setitem(digits.SEEDS, "test", 3)
    with pytest.raises(DataError, match=rf"SHA-256 \w{{64}}, expected {digits.SHA256}: use MNIST instead"):
        Digits(few, download=True)
    assert digits._checksum(raw(few)) == before
    assert staged(few) == []


def test_unwritable_folder_is_named_in_one_sentence(few: Path) -> None:
    """A folder that cannot be made is an error that names it."""
    file = few / "file"
    file.touch()
    for root in (file, file / "below"):
        with pytest.raises(DataError) as caught:
            Digits(root, download=True)
        assert str(caught.value) == (f"{raw(root)}: cannot be written (Not a directory), give Digits a folder that can")


def test_full_disk_is_one_sentence_and_leaves_nothing(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error, and no part of a file stays."""

    def write_bytes(path: Path, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    shutil.rmtree(raw(few))
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(DataError, match=r"raw: cannot be written \(No space left on device\)"):
        Digits(few, download=True)
    assert list((few / "Digits").iterdir()) == []


def test_a_folder_in_a_files_place_is_one_sentence(few: Path) -> None:
    """A folder of a file's name is an error, not a traceback."""
    file = raw(few) / idx.ALL_FILES[2]
    file.unlink()
    file.mkdir()
    with pytest.raises(DataError, match=r"raw: cannot be written \(Is a directory\)"):
        Digits(few, download=True)


def test_many_at_once_all_find_it_intact(few: Path) -> None:
    """Several that draw into one folder do not disturb each other."""
    for name in idx.ALL_FILES:
        flip_a_byte(raw(few) / name)
    with ThreadPoolExecutor(4) as pool:
        for data in pool.map(lambda _: Digits(few, download=True), range(4)):
            assert len(data) == FEW["train"]
    assert is_intact(few)


def start_drawing(root: Path) -> subprocess.Popen[bytes]:
    """Start another process that draws all of Digits into ``root``."""
    program = "import sys; from mnist_loop.data.digits import Digits; Digits(sys.argv[1], download=True)"
    environment = {**os.environ, "PYTHONPATH": str(Path(digits.__file__).parents[2])}
    command = [sys.executable, "-c", program, str(root)]
    return subprocess.Popen(command, env=environment)  # the command is this test's own


@pytest.mark.slow
def test_two_processes_at_once_both_succeed(tmp_path: Path) -> None:
    """Two processes that draw into one folder both end with intact files."""
    with start_drawing(tmp_path) as one, start_drawing(tmp_path) as other:
        assert (one.wait(120), other.wait(120)) == (0, 0)
    assert is_intact(tmp_path)
    assert staged(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("files_staged", [0, 2, 4])
def test_killed_process_leaves_nothing_broken(tmp_path: Path, files_staged: int) -> None:
    """A process killed while it draws leaves no files that another would read."""
    with start_drawing(tmp_path) as process:
        deadline = time.monotonic() + 120
        pattern = "Digits/.mnist-loop-staging-*"
        while time.monotonic() < deadline and process.poll() is None:
            if any(len(list(folder.iterdir())) >= files_staged for folder in tmp_path.glob(pattern)):
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        assert process.wait(120) == -signal.SIGKILL
    with pytest.raises(DataError, match="no intact Digits"):
        Digits(tmp_path)
    Digits(tmp_path, download=True)
    assert is_intact(tmp_path)


# As hard as MNIST


def normalised(data: Digits) -> tuple[Tensor, Tensor]:
    """All images (N, 784) as the lesson's transform makes them, and their labels (N,)."""
    return (data.data.flatten(1) / 255 - 0.5) / 0.5, data.targets


def lesson_accuracies(root: Path, seed: int) -> list[float]:
    """Train as the lesson does, but from memory: test accuracy after each of five epochs."""
    images, labels = normalised(Digits(root, train=True))
    test_images, test_labels = normalised(Digits(root, train=False))
    accuracies = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, loss = MLP(), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in MNIST_ACCURACY:
            for batch in torch.split(torch.randperm(len(images)), 64):
                optimizer.zero_grad()
                loss(model(images[batch]), labels[batch]).backward()
                optimizer.step()
            with torch.no_grad():
                right = model(test_images).argmax(dim=1) == test_labels
            accuracies.append(right.double().mean().item())
    return accuracies


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_lesson_learns_it_as_it_learns_mnist(root: Path, seed: int) -> None:
    """Test accuracy after each epoch is that of MNIST, within three points."""
    accuracies = lesson_accuracies(root, seed)
    assert accuracies == pytest.approx(MNIST_ACCURACY, abs=AS_HARD_WITHIN)


def test_pixels_have_the_mean_and_spread_of_mnist(root: Path) -> None:
    """Ink covers as much of the page as on MNIST's, and as black and white."""
    pixels = Digits(root, train=False).data.double() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=0.01)
    assert pixels.std().item() == pytest.approx(0.3081, abs=0.01)
