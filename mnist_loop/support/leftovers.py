"""Temporary folders and files of ours: locked while they are used, so that what a killed process left can be told.

It is removed at the next start: by whoever makes something of the kind in the same place.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

if sys.platform != "win32":
    import fcntl

# The folders of `make_folder` and the scratch folders of verify, and the files of `part_of`. A name that a person would
# give is none of them.
OURS = re.compile(r"(\.mnist-loop-[a-z]+|mnist-loop-scratch)-[a-z0-9_]{8}|\..+\.[0-9a-f]{32}\.part")
# By when what is new is locked. Windows has no such locks: what is older was left there, as nothing takes so long.
STALE_AFTER_S = 60.0 if sys.platform != "win32" else 3600.0


def make_folder(kind: str, place: str | Path | None = None) -> tuple[Path, int]:
    """Make a temporary folder in ``place``, by default that of the system, and hold it; remove those left there.

    Returns:
        The folder, and what `release` takes.
    """
    place = tempfile.gettempdir() if place is None else place
    sweep_once(str(Path(place).resolve()))
    folder = Path(tempfile.mkdtemp(prefix=f".mnist-loop-{kind}-", dir=place))
    return folder, hold(folder)


@contextmanager
def temporary_folder(kind: str, place: str | Path | None = None) -> Iterator[Path]:
    """Yield a folder that `make_folder` makes; it is removed at the end."""
    folder, lock = make_folder(kind, place)
    try:
        yield folder
    finally:
        remove(folder)
        release(lock)


def part_of(path: Path) -> Path:
    """Return the name of a new file beside ``path``, for what shall become its content; remove those left there."""
    sweep_once(str(path.parent.resolve()))
    return path.parent / f".{path.name}.{uuid4().hex}.part"


def hold(path: str | Path) -> int:
    """Lock what was just made, so that no `sweep` takes it, until `release` or the end of the process.

    Returns:
        A file descriptor; -1 where the system, or the disk, has no such locks.
    """
    if sys.platform == "win32":
        return -1
    lock = os.open(path, os.O_RDONLY)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return lock


def release(lock: int) -> None:
    """Give up what `hold` returned."""
    if lock >= 0:
        os.close(lock)


def sweep(place: str) -> None:
    """Remove what is ours in a folder and in use no more. What is new, or of another user, stays."""
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if OURS.fullmatch(entry.name):
                with suppress(OSError):  # it is in use, of another user, or gone
                    _remove_stale(entry)


@cache
def sweep_once(place: str) -> None:
    """Do as `sweep`, once in the life of this process for each folder."""
    sweep(place)


def _remove_stale(entry: os.DirEntry[str]) -> None:
    if entry.is_symlink() or time.time() - entry.stat().st_mtime < STALE_AFTER_S:
        return
    if sys.platform == "win32":
        remove(entry.path)
        return
    lock = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(entry.path)
    finally:
        os.close(lock)


def remove(path: str | Path) -> None:
    """Remove a folder, whatever was made of the permissions in it, or a file. What a link leads to is not touched."""
    path = Path(path)
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.is_dir():
        path.chmod(0o700)
        for parent, names, _ in os.walk(path):
            for name in names:
                if not Path(parent, name).is_symlink():
                    Path(parent, name).chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
