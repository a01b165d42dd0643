"""What a killed process left is removed at the next start; what is in use, new, or not ours stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_loop.support.files import write_atomically
from mnist_loop.support.leftovers import STALE_AFTER_S, make_folder, part_of, release, sweep, temporary_folder

NOT_OURS = (
    "mnist-loop-scratch",
    "mnist-loop-compare-20261128",
    "mnist-loop-0.2.0",
    ".mnist-loop-notes",
    ".mnist-loop-staging-mine",
    ".result.json.part",
    "result.json.0123456789abcdef0123456789abcdef.part",
)
DIES = {
    "a folder": "make_folder('native', sys.argv[1])",
    "a file": "part = part_of(Path(sys.argv[1], 'result.json')); part.write_text('half'); hold(part)",
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def aged(path: Path, seconds: float = 2 * STALE_AFTER_S) -> Path:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
    return path


def killed(code: str, place: Path) -> None:
    """Run code in another process, which is killed in the middle of it."""
    modules = "import os, sys; from pathlib import Path; from mnist_loop.support.leftovers import *"
    code = f"{modules}; {code}; os.kill(os.getpid(), {signal.SIGKILL})"
    assert subprocess.run([sys.executable, "-c", code, str(place)], check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize("code", DIES.values(), ids=DIES)
@pytest.mark.parametrize("start", ["a folder", "a file"])
def test_what_a_killed_process_left_goes_at_the_next_start(tmp_path: Path, code: str, start: str) -> None:
    """Of either kind, whatever is made next in the same place."""
    killed(code, tmp_path)
    (left,) = tmp_path.iterdir()
    aged(left)
    if start == "a folder":
        with temporary_folder("staging", tmp_path) as folder:
            assert names(tmp_path) == [folder.name]
    else:
        write_atomically(tmp_path / "other.json", b"{}")
        assert names(tmp_path) == ["other.json"]


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    """However old it is, until it is given up or its process ends."""
    folder, lock = make_folder("compare", tmp_path)
    aged(folder)
    sweep(str(tmp_path))
    assert names(tmp_path) == [folder.name]
    release(lock)
    sweep(str(tmp_path))
    assert names(tmp_path) == []


def test_what_is_new_stays(tmp_path: Path) -> None:
    """Another process may be about to lock it."""
    folder, lock = make_folder("compare", tmp_path)
    release(lock)
    aged(folder, STALE_AFTER_S / 2)
    sweep(str(tmp_path))
    assert names(tmp_path) == [folder.name]


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_is_not_ours_stays(tmp_path: Path, name: str) -> None:
    """A name that a person gave is none that we give."""
    (tmp_path / name).mkdir()
    aged(tmp_path / name)
    sweep(str(tmp_path))
    assert names(tmp_path) == [name]


def test_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    """Under whatever name, and one that leads to nothing does no harm."""
    target, place = tmp_path / "target", tmp_path / "place"
    target.mkdir()
    place.mkdir()
    (target / "file").write_text("mine")
    aged(target)
    (place / ".mnist-loop-staging-abcdefgh").symlink_to(target)
    (place / ".mnist-loop-staging-abcdefgi").symlink_to(tmp_path / "gone")
    folder, lock = make_folder("native", place)
    (folder / "link").symlink_to(target)
    release(lock)
    aged(folder)
    sweep(str(place))
    assert not folder.exists()
    assert (target / "file").read_text() == "mine"


def test_a_folder_without_permissions_goes(tmp_path: Path) -> None:
    """Whatever was made of them."""
    with temporary_folder("native", tmp_path) as folder:
        (folder / "locked").mkdir()
        (folder / "locked" / "file").write_text("x")
        (folder / "locked").chmod(0)
    assert names(tmp_path) == []


def test_names_of_parts_are_new(tmp_path: Path) -> None:
    """Two writers of one file have one each."""
    assert part_of(tmp_path / "a") != part_of(tmp_path / "a")
