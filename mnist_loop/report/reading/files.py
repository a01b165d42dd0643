"""The files of a report: finds them and opens them."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from mnist_loop.report.reading.node import InvalidResult
from mnist_loop.report.reading.text import clean
from mnist_loop.report.stored import Refused
from mnist_loop.support.limits import MIB

COMPRESSED = ".gz"
ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
MOST_FILES = 100_000
DEEPEST = 30  # folders in folders: Python up to 3.11 walks them by recursion
# A sweep of five batch sizes on one device takes 0.14 MiB, and JSON in memory up to thirty times its size.
LARGEST_SWEEP = 16 * MIB
LONGEST_PATH = 300  # characters of a path that are shown


def shown(path: Path) -> Path:
    """Return a path without control characters, for messages."""
    return Path(clean(str(path), LONGEST_PATH) or "?")


def find(paths: Sequence[Path]) -> tuple[list[Path], list[Refused]]:
    """Return the files of ``paths``, each once and in order, and the paths that were refused.

    A folder stands for all .json and .jsonl files in it and its subfolders, gzipped or not; hidden ones are skipped.
    Links to folders are not followed, as they may form a cycle.
    """
    files: list[Path] = []
    refused: list[Refused] = []
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            found = _inside(path) if path.is_dir() else [path]
        except (OSError, ValueError) as error:  # no permission; a null character in the name
            refused.append(Refused(shown(path), _why(error)))
            continue
        if not found:
            refused.append(Refused(shown(path), "no .json or .jsonl file in this folder: expected stored results"))
        files += _new(found, seen)
    for path in files[MOST_FILES:]:
        refused.append(Refused(shown(path), f"left out: {MOST_FILES} files are read at most"))
    return files[:MOST_FILES], refused


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, decompressed where it is gzipped.

    Raises:
        InvalidResult: it is not there, not readable, or no regular file.
    """
    # Opening a pipe must not wait for its other end.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise InvalidResult(_why(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidResult("not a regular file: expected a result that mnist-loop stored")
    with os.fdopen(descriptor, "rb") as file:
        try:
            yield cast("BinaryIO", gzip.GzipFile(fileobj=file)) if path.suffix == COMPRESSED else file
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise InvalidResult("not gzipped, or cut short: expected a result that mnist-loop stored") from None
        except OSError as error:
            raise InvalidResult(_why(error)) from error


def read_whole(file: BinaryIO, largest: int = LARGEST_SWEEP) -> bytes:
    """Return the rest of a file.

    Raises:
        InvalidResult: there is more than ``largest`` bytes.
    """
    content = file.read(largest + 1)
    if len(content) > largest:
        raise InvalidResult(f"larger than {largest // MIB} MiB: no result of mnist-loop is")
    return content


def _inside(folder: Path) -> list[Path]:
    found: list[Path] = []
    with os.scandir(folder) as entries:  # raises where the folder is not readable; os.walk does not
        any(entries)
    for here, folders, names in os.walk(folder):
        depth = len(Path(here).parts) - len(folder.parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and depth < DEEPEST)
        found += [Path(here, name) for name in sorted(names) if not name.startswith(".") and name.endswith(ENDINGS)]
        if len(found) > MOST_FILES:
            break
    return found


def _new(found: Iterable[Path], seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files that were not seen before."""
    for path in found:
        try:
            status = path.stat()
        except (OSError, ValueError):
            yield path  # refused with the reason when it is opened
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            yield path


def _why(error: OSError | ValueError) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or clean(str(error), 80)
    return f"cannot be read ({reason}): expected a result that mnist-loop stored"
