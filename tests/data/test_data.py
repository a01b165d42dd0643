"""Which data is used: MNIST where it is found, the stand-in where it is not, and never one passed off as the other."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_loop.data import Data, idx, load_data
from mnist_loop.data import mnist as data_module
from mnist_loop.errors import DataError
from tests import small_mnist

PLACES = ("given", "variable", "default")
TOLD_BY = {"given": "as given", "variable": "$MNIST_LOOP_DATA", "default": "default"}
MODIFIED = "its checksums are not those of the published files"


class Downloads:
    """What was asked to be downloaded; each download fails."""

    def __init__(self) -> None:
        self.asked_for: list[Path] = []

    def __call__(self, root: Path) -> None:
        self.asked_for.append(root)
        raise DataError(f"the download to {root} failed (no network here)")


@pytest.fixture(autouse=True)
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Downloads:
    """An empty working folder, no variable set, small data sets, and no network."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("MNIST_LOOP_DATA", raising=False)
    monkeypatch.setattr(data_module, "Digits", small_mnist.Digits)
    monkeypatch.setattr(data_module, "MNIST_CHECKSUMS", small_mnist.checksums())
    failing = Downloads()
    monkeypatch.setattr(data_module, "download_mnist", failing)
    return failing


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The three places that are looked into, all named, without MNIST."""
    found = {"given": tmp_path / "given", "variable": tmp_path / "variable", "default": Path("data")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.setenv("MNIST_LOOP_DATA", str(found["variable"]))
    return found


def put_mnist(root: Path, seed: int = 0) -> None:
    small_mnist.write(root / "MNIST" / "raw", small_mnist.contents(seed))


def assert_holds(data: Data, seed: int = 0) -> None:
    arrays = small_mnist.arrays(seed)
    for split, dataset in (("train", data.train), ("test", data.test)):
        images, labels = idx.file_names(split)
        assert np.array_equal(dataset.data.numpy(), arrays[images]), f"{split} has other images"
        assert np.array_equal(dataset.targets.numpy(), arrays[labels]), f"{split} has other labels"


def message(where: str | Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_data(where)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Where MNIST is looked for


@pytest.mark.parametrize("holding", [PLACES[first:] for first in range(3)] + [(place,) for place in PLACES])
def test_the_first_place_that_has_mnist_is_taken(
    places: dict[str, Path], downloads: Downloads, holding: tuple[str, ...]
) -> None:
    """The place given comes before the variable, and that before ./data; the note has those passed over."""
    for place in holding:
        put_mnist(places[place])
    given = holding[0] == PLACES[0]
    data = load_data(places["given"] if given else None)
    first = 0 if given else 1
    passed_over = [f"{places[name]} ({TOLD_BY[name]})" for name in PLACES[first : PLACES.index(holding[0])]]
    note = f"data: MNIST from {places[holding[0]]} ({TOLD_BY[holding[0]]})"
    assert data.note == (f"{note}; none in {', '.join(passed_over)}" if passed_over else note)
    assert (data.name, data.root) == ("MNIST", places[holding[0]])
    assert_holds(data)
    assert downloads.asked_for == []


def test_a_place_that_was_given_is_the_only_one(places: dict[str, Path], downloads: Downloads) -> None:
    """Where it has no MNIST, that of the variable is not used in its stead: it is downloaded there, or none is used."""
    put_mnist(places["variable"])
    put_mnist(places["default"])
    data = load_data(places["given"])
    assert downloads.asked_for == [places["given"]]
    assert data.name == "Digits"
    assert f"; no MNIST in {places['given']} (as given), and the download" in data.note


def test_the_variable_counts_only_when_it_has_a_value(monkeypatch: pytest.MonkeyPatch, downloads: Downloads) -> None:
    """An empty variable is no place, least of all the working folder."""
    monkeypatch.setenv("MNIST_LOOP_DATA", "")
    put_mnist(Path())
    assert load_data().name == "Digits"
    assert downloads.asked_for == [Path("data")]


@pytest.mark.parametrize("place", ["given", "variable"])
def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str) -> None:
    """Where the shell leaves ~ as it is, as it does in --data=~/mnist, it is the home folder all the same."""
    monkeypatch.setenv("HOME", str(tmp_path))
    put_mnist(tmp_path / "mine")
    if place == "variable":
        monkeypatch.setenv("MNIST_LOOP_DATA", "~/mine")
    assert load_data("~/mine" if place == "given" else None).root == tmp_path / "mine"


def test_mnist_is_preferred_to_nothing_asked(downloads: Downloads) -> None:
    """Without any word on where, MNIST in ./data is used, and ``"mnist"`` finds it as well."""
    put_mnist(Path("data"))
    assert load_data().note == load_data("mnist").note == "data: MNIST from data (default)"
    assert downloads.asked_for == []


# What is there decides its name


@pytest.mark.parametrize("name", idx.ALL_FILES)
def test_only_published_checksums_are_mnist(name: str) -> None:
    """One other byte in any of the four files, and the data has another name, in the note too."""
    put_mnist(Path("data"))
    file = Path("data/MNIST/raw") / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    data = load_data()
    assert data.name == "MNIST (modified)"
    assert data.note == f"data: MNIST (modified) from data (default); {MODIFIED}"


def test_the_published_checksums_are_those_of_mnist(mnist: Data) -> None:
    """Real MNIST, where it is on disk, goes by its own name, and has its sizes."""
    assert mnist.name == "MNIST"
    assert (len(mnist.train), len(mnist.test)) == (60_000, 10_000)


def test_only_the_files_that_were_checked_are_read() -> None:
    """What an old release of torchvision left in MNIST/processed is not used: nobody checked it."""
    put_mnist(Path("data"))
    processed = Path("data/MNIST/processed")
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.long)), processed / name)
    assert_holds(load_data())


def test_both_splits_have_the_lessons_transform() -> None:
    """An image of either split comes as a float tensor from -1 to 1, with its label."""
    put_mnist(Path("data"))
    data = load_data()
    for dataset in (data.train, data.test):
        image, label = dataset[3]
        expected = data_module.normalise(dataset.data[3:4])[0]
        assert torch.equal(image, expected)
        assert label == int(dataset.targets[3])


def test_a_data_set_is_not_changed() -> None:
    """Its name and note belong to its files."""
    put_mnist(Path("data"))
    with pytest.raises(FrozenInstanceError):
        load_data().name = "another"  # type: ignore[misc]


# The stand-in


def test_the_stand_in_is_said_in_one_line(places: dict[str, Path], downloads: Downloads) -> None:
    """Without MNIST, the note has the stand-in, where MNIST was looked for, and why it was not downloaded."""
    data = load_data(places["given"])
    assert data.name == "Digits"
    assert data.note == (
        "data: Digits, the built-in stand-in, from data; "
        f"no MNIST in {places['given']} (as given), "
        f"and the download to {places['given']} failed (no network here); "
        "0 MB were written there"
    )
    assert_holds(data, seed=1)


def test_digits_asked_for_are_given(places: dict[str, Path], downloads: Downloads) -> None:
    """``"digits"`` is the stand-in even where there is MNIST, without a download, and without an excuse."""
    for place in places.values():
        put_mnist(place)
    data = load_data("digits")
    assert (data.name, data.root) == ("Digits", Path("data"))
    assert data.note == "data: Digits, the built-in stand-in, from data; 0 MB were written there"  # small ones
    assert_holds(data, seed=1)
    assert load_data("digits").note == "data: Digits, the built-in stand-in, from data"
    assert downloads.asked_for == []


def test_mnist_asked_for_refuses_the_stand_in(places: dict[str, Path]) -> None:
    """``"mnist"`` is MNIST or an error, and draws nothing."""
    assert message("mnist") == (
        f"no MNIST in {places['variable']} ($MNIST_LOOP_DATA), data (default), "
        f"and the download to {places['variable']} failed (no network here): give its folder, or --data digits"
    )
    assert list(places["default"].iterdir()) == []


@pytest.mark.parametrize("first", PLACES)
def test_a_download_goes_to_the_first_place_named(
    places: dict[str, Path], downloads: Downloads, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The place given, else the variable's, else ./data; what came is then read, and said to be downloaded."""

    def download(root: Path) -> None:
        put_mnist(root)

    monkeypatch.setattr(data_module, "download_mnist", download)
    if first == "default":
        monkeypatch.delenv("MNIST_LOOP_DATA")
    data = load_data(places["given"] if first == "given" else None)
    assert (data.name, data.root) == ("MNIST", places[first])
    assert data.note == f"data: MNIST from {places[first]} (downloaded)"
    assert_holds(data)


@pytest.mark.parametrize("where", [None, "mnist"])
def test_without_leave_nothing_is_downloaded(downloads: Downloads, where: str | None) -> None:
    """``download=False`` is kept, and said."""
    said = "no MNIST in data (default), and no download was asked for"
    if where is None:
        assert f"; {said}" in load_data(where, download=False).note
    else:
        with pytest.raises(DataError, match=r"no download was asked for: give its folder, or --data digits$"):
            load_data(where, download=False)
    assert downloads.asked_for == []


# Bad input


NOT_A_FOLDER = "expected one that holds MNIST/raw, or the word mnist or digits"


@pytest.mark.parametrize("where", ["nowhere", "Digits", "file", "file/below", "~no-such-user/data"])
def test_a_place_that_is_not_there_is_one_sentence(downloads: Downloads, where: str) -> None:
    """A mistyped folder is an error, even where MNIST could be found or downloaded elsewhere."""
    put_mnist(Path("data"))
    Path("file").touch()
    assert message(where) == f"{where}: no such folder for the data, {NOT_A_FOLDER}"
    assert downloads.asked_for == []


def test_a_name_that_no_folder_can_have_is_one_sentence() -> None:
    """A name longer than the system takes is an error as any other."""
    where = "x" * 5000
    assert message(where) in {
        f"{where}: {found}, {NOT_A_FOLDER}"
        for found in ("cannot be read (File name too long)", "no such folder for the data")  # by release of Python
    }


@pytest.mark.parametrize("where", [None, "mnist"])
@pytest.mark.parametrize("missing", idx.ALL_FILES)
def test_a_half_copied_mnist_is_an_error(downloads: Downloads, missing: str, where: str | None) -> None:
    """It is not passed over for the stand-in, nor downloaded on top of."""
    put_mnist(Path("data"))
    (Path("data/MNIST/raw") / missing).unlink()
    assert message(where) == f"data/MNIST/raw/{missing}: not there, expected an IDX file"
    assert downloads.asked_for == []


@pytest.mark.parametrize("kept", idx.ALL_FILES)
def test_one_of_the_files_is_enough_to_be_told(kept: str) -> None:
    """Whichever file it is that came across, the others are missed."""
    put_mnist(Path("data"))
    for name in idx.ALL_FILES:
        if name != kept:
            (Path("data/MNIST/raw") / name).unlink()
    assert message().endswith("not there, expected an IDX file")


def test_a_broken_mnist_is_an_error(places: dict[str, Path], downloads: Downloads) -> None:
    """What is broken in one place is not passed over for what is sound in the next."""
    for place in places.values():
        put_mnist(place)
    file = places["given"] / "MNIST" / "raw" / idx.ALL_FILES[0]
    file.write_bytes(file.read_bytes()[:-1])
    assert message(places["given"]).startswith(f"{file}: truncated, ")
    assert downloads.asked_for == []


def test_a_link_to_nowhere_is_an_error() -> None:
    """Links whose targets have moved are told of, not passed over."""
    raw = Path("data/MNIST/raw")
    raw.mkdir(parents=True)
    for name in idx.ALL_FILES:
        (raw / name).symlink_to("moved")
    assert message() == f"{raw / idx.ALL_FILES[0]}: not there, expected an IDX file"


def test_a_folder_that_cannot_be_read_is_one_sentence(downloads: Downloads) -> None:
    """MNIST may be in it: that is an error, and not for the stand-in to hide."""
    raw = Path("data/MNIST/raw")
    raw.parent.mkdir(parents=True)
    raw.symlink_to("raw")
    assert message() == (f"{raw}: cannot be read (Too many levels of symbolic links), expected the four files of MNIST")
    assert downloads.asked_for == []


def test_other_files_in_mnists_place_are_not_mnist(downloads: Downloads) -> None:
    """A folder of archives still to be unpacked is a folder without MNIST."""
    small_mnist.write(Path("data/MNIST/raw"), {f"{name}.gz": b"" for name in idx.ALL_FILES})
    assert load_data().name == "Digits"
    assert downloads.asked_for == [Path("data")]
