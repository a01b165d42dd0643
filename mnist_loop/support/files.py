"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

STAGING_PREFIX = ".mnist-loop-staging-"
STALE_AFTER_S = 3600.0  # nothing here is staged for longer than minutes: an older folder was left by a killed process


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never a part.

    Raises:
        OSError: the folder cannot be written or the disk is full; ``path`` is then as it was.
    """
    # Not tempfile, whose files are for their owner alone: to set that right, the umask would have to be read,
    # and to read it is to change it, for all threads.
    part = path.parent / f".{path.name}.{uuid4().hex}.part"
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
    """Yield a new folder beside the final place, on the same disk; it is gone when the block ends.

    Folders that a killed process left there more than an hour ago are removed as well.
    """
    root.mkdir(parents=True, exist_ok=True)
    for stale in root.glob(f"{STAGING_PREFIX}*"):
        with suppress(FileNotFoundError):  # another process has just finished with it
            if time.time() - stale.stat().st_mtime > STALE_AFTER_S:
                shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=root) as folder:
        yield Path(folder)


def publish(files: list[Path], folder: Path) -> None:
    """Move finished ``files`` into ``folder``: all in one step if it is new, else each in one step.

    A file of the same name is replaced.
    """
    whole = files[0].with_name(f"{STAGING_PREFIX}whole")
    whole.mkdir()
    staged = [file.replace(whole / file.name) for file in files]
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        whole.rename(folder)
    except OSError:  # there are files in it already
        folder.mkdir(exist_ok=True)
        for file in staged:
            file.replace(folder / file.name)
