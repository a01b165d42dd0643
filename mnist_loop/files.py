"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STAGING_PREFIX = ".mnist-loop-staging-"
STALE_AFTER_S = 3600.0  # nothing here is staged for longer than minutes: an older folder was left by a killed process


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never a part.

    Raises:
        OSError: the folder cannot be written or the disk is full; ``path`` is then as it was.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as part:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
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
    """Move finished ``files`` into ``folder``, each in one step; a file of the same name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        file.replace(folder / file.name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
