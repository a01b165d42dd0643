"""Writing files completely or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mnist_loop.errors import UserError
from mnist_loop.support.leftovers import hold, part_of, release, temporary_folder

ROOM = 2**20  # bytes: a result takes less
LARGEST_LOOKED_AT = 64 * 2**20  # bytes that are read to recognise a file that mnist_loop wrote; such files are smaller


def check_output(
    path: Path,
    inputs: Iterable[Path] = (),
    ours: Callable[[bytes], bool] | None = None,
    instead: str = "name another file",
) -> None:
    """Refuse to overwrite a file that would be lost. A new or an empty file can be written.

    Args:
        path: the output.
        inputs: files that are read.
        ours: says by its content whether a file is an earlier output, which may be replaced; None: never replace.
        instead: what the user can do instead.

    Raises:
        UserError: ``path`` is an input, another file, or not a regular file.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise UserError(f"{path}: is a folder, expected the name of a new file")
        if any(_is_same(found, one) for one in inputs):
            raise UserError(f"{path}: is read here, and would be lost; name another file to write to")
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path}: is no regular file, expected the name of a new file")
        if not found.st_size:
            return
        if ours is None:
            raise UserError(f"{path}: is there already, and would be lost; {instead}")
        with path.open("rb") as file:
            known = ours(file.read(LARGEST_LOOKED_AT))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:  # no permission, or a null character in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be written ({reason}); name another file") from error
    if not known:
        raise UserError(f"{path}: is there already, and is nothing that this command wrote; move it, or {instead}")


def check_room(path: Path) -> None:
    """Refuse a new file that could not be written when the long work is done whose result it is for.

    As many bytes as a result takes are written beside it, or where its folder will be, and removed.

    Raises:
        UserError: a folder that cannot be written, or a full disk.
    """
    place = next(folder for folder in path.absolute().parents if folder.exists() or folder.is_symlink())
    part = part_of(place / path.name)
    try:
        with part.open("xb") as file:
            file.write(bytes(ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}), expected a folder with room for it: write it elsewhere"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _is_same(found: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(found, path.stat())
    except (OSError, ValueError):  # it does not exist
        return False


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``. A reader sees the old file or the new one, never a part.

    A symbolic link is kept, and its target is written.

    Raises:
        OSError: the folder cannot be written, or the disk is full. ``path`` is unchanged then.
    """
    path = path.resolve()
    # tempfile makes files that only their owner can read. To correct that one has to know the umask, which can only be
    # read by changing it, for all threads.
    part, lock = part_of(path), -1
    try:
        with part.open("xb") as file:
            lock = hold(part)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        release(lock)


@contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
    """Yield a new folder inside ``root``, so on the same disk as the final files; it is removed at the end."""
    root.mkdir(parents=True, exist_ok=True)
    with temporary_folder("staging", root) as folder:
        yield folder


def publish(files: list[Path], folder: Path) -> None:
    """Move finished ``files`` into ``folder``: all in one step if the folder is new, else one by one.

    Files of the same names are replaced.
    """
    whole = files[0].with_name(f".{folder.name}")
    whole.mkdir()
    staged = [file.replace(whole / file.name) for file in files]
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        whole.rename(folder)
    except OSError:  # the folder exists and has files
        folder.mkdir(exist_ok=True)
        for file in staged:
            file.replace(folder / file.name)
