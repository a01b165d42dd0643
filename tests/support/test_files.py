"""Files are there whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mnist_loop.support import leftovers
from mnist_loop.support.files import publish, staging_folder, write_atomically

OLD, NEW = b"old", b"new" * 1000
FILES = ("one", "two", "three")
INTERRUPTIONS = (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt())


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The process's umask, for one test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


# One file


@pytest.mark.parametrize("content", [b"", NEW])
@pytest.mark.parametrize("there", [False, True])
def test_the_file_has_the_new_content_and_is_alone(tmp_path: Path, there: bool, content: bytes) -> None:
    """Whether a file was there or not, the new content is, and nothing else is left in the folder."""
    path = tmp_path / "file"
    if there:
        path.write_bytes(OLD)
    write_atomically(path, content)
    assert path.read_bytes() == content
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], indirect=True, ids=oct)
def test_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    """Who may read and write the file is for the umask to say, as with ``open``."""
    write_atomically(tmp_path / "file", NEW)
    assert mode(tmp_path / "file") == 0o666 & ~umask


def test_the_umask_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The umask belongs to all threads: two that set it and put it back could lose it for good."""
    monkeypatch.delattr(os, "umask")
    write_atomically(tmp_path / "file", NEW)


def test_the_content_is_on_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the new content is brought to disk, the name still leads to the old: a power cut loses neither."""
    path = tmp_path / "file"
    path.write_bytes(OLD)
    seen = []

    def fsync(descriptor: int) -> None:
        seen.append((path.read_bytes(), os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, NEW)
    assert seen == [(OLD, len(NEW))]


@pytest.mark.parametrize("interruption", INTERRUPTIONS, ids=repr)
@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, interruption: BaseException
) -> None:
    """A full disk or Ctrl-C while writing: the old file is as it was, and no part of the new one stays."""
    path = tmp_path / "file"
    if there:
        path.write_bytes(OLD)

    def fsync(_descriptor: int) -> None:
        raise interruption

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(type(interruption)) as caught:
        write_atomically(path, NEW)
    assert caught.value is interruption
    assert names(tmp_path) == ["file"] * there
    assert not there or path.read_bytes() == OLD


def test_a_folder_in_the_files_place_is_an_error_and_stays(tmp_path: Path) -> None:
    """What cannot take its name leaves nothing either."""
    (tmp_path / "file" / "below").mkdir(parents=True)
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file", NEW)
    assert names(tmp_path) == ["file"]
    assert names(tmp_path / "file") == ["below"]


def test_a_missing_folder_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    """The folder of the file must be there."""
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "folder" / "file", NEW)
    assert names(tmp_path) == []


def test_many_writers_never_show_a_part(tmp_path: Path) -> None:
    """While several threads write the same file, each read finds one of their contents, whole."""
    path = tmp_path / "file"
    whole = [bytes([writer]) * (1 << 20) for writer in range(3)]
    write_atomically(path, whole[0])
    failures: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            for _ in range(10):
                write_atomically(path, content)
        except BaseException as error:  # noqa: BLE001  # the main thread raises it
            failures.append(error)

    writers = [threading.Thread(target=write, args=(content,)) for content in whole]
    for writer in writers:
        writer.start()
    reads = 0
    try:
        while reads == 0 or any(writer.is_alive() for writer in writers):
            content = path.read_bytes()
            assert content in whole, f"read {reads}: {len(content)} bytes that nobody wrote"
            reads += 1
    finally:
        for writer in writers:
            writer.join()
    assert failures == []
    assert names(tmp_path) == ["file"]


# The folder in which files are made ready


@pytest.mark.parametrize("interruption", [None, *INTERRUPTIONS], ids=repr)
def test_staging_leaves_nothing(tmp_path: Path, interruption: BaseException | None) -> None:
    """A staging folder is beside the final place, new and empty; it is gone afterwards, with all that is in it."""
    root = tmp_path / "new" / "root"

    def stage() -> None:
        with staging_folder(root) as staging, staging_folder(root) as other:
            assert staging.parent == root
            assert leftovers.OURS.fullmatch(staging.name)
            assert staging != other
            assert names(staging) == []
            (staging / "below").mkdir()
            (staging / "below" / "file").write_bytes(NEW)
            if interruption is not None:
                raise interruption

    if interruption is None:
        stage()
    else:
        with pytest.raises(type(interruption)):
            stage()
    assert names(root) == []


# Finished files take their place


def stage(root: Path, content: bytes) -> list[Path]:
    folder = root / "staging"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes(content)
    return [folder / name for name in FILES]


def watch(monkeypatch: pytest.MonkeyPatch, look: Callable[[], object]) -> None:
    """Call ``look`` before and after each move of a file or a folder."""

    def watched(move: Callable[..., Any]) -> Callable[..., Any]:
        def moved(path: Path, target: Path) -> Any:
            look()
            result = move(path, target)
            look()
            return result

        return moved

    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, watched(getattr(Path, name)))


@pytest.mark.parametrize("umask", [0o022, 0o077], indirect=True, ids=oct)
def test_a_new_folder_is_published_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    """At no moment does the folder hold some of the files; those who may enter it are the umask's to say."""
    files, folder = stage(tmp_path, NEW), tmp_path / "above" / "folder"
    seen = []
    watch(monkeypatch, lambda: seen.append(names(folder) if folder.exists() else []))
    publish(files, folder)
    assert [] in seen
    assert all(found in ([], sorted(FILES)) for found in seen), seen
    assert names(folder) == sorted(FILES)
    assert all((folder / name).read_bytes() == NEW for name in FILES)
    assert mode(folder) == 0o777 & ~umask


def test_files_that_are_there_are_replaced_each_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each moment each file is there, old or new; others in the folder stay as they were."""
    files, folder = stage(tmp_path, NEW), tmp_path / "folder"
    folder.mkdir()
    for name in (*FILES, "another"):
        (folder / name).write_bytes(OLD)
    watch(monkeypatch, lambda: [(folder / name).read_bytes() for name in FILES])
    publish(files, folder)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {**dict.fromkeys(FILES, NEW), "another": OLD}


def test_files_that_cannot_be_published_are_an_error(tmp_path: Path) -> None:
    """A file in the folder's place is an error, and stays."""
    files, folder = stage(tmp_path, NEW), tmp_path / "folder"
    folder.write_bytes(OLD)
    with pytest.raises(FileExistsError):
        publish(files, folder)
    assert folder.read_bytes() == OLD
