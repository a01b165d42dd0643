"""What a session of tests has left behind: processes, temporary folders, half-written files."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from mnist_loop.support.leftovers import OURS
from mnist_loop.verification.sandbox.processes import is_helper
from mnist_loop.verification.sandbox.scratch import best_place

MARK = "MNIST_LOOP_TESTS"  # the variable that all programs inherit which the tests start
GRACE_S = 10.0  # for what is about to end, and for what another session of tests has just left


class Watch:
    """Knows what was there before the tests.

    Args:
        places: folders that tests write to.
    """

    def __init__(self, *places: Path) -> None:
        self.places = {
            Path(tempfile.gettempdir()).resolve(),
            Path(best_place()).resolve(),
            *(place.resolve() for place in places),
        }
        self.files = set(self.found())
        self.mark = os.environ.setdefault(MARK, f"{os.getpid()} {time.time()}")  # a process of xdist has it

    def left(self) -> list[str]:
        """Return what was left, after a while in which it may still end."""
        end = time.monotonic() + GRACE_S
        while (left := [*self.folders(), *self.processes()]) and time.monotonic() < end:
            time.sleep(0.1)
        return left

    def folders(self) -> list[str]:
        """Return the folders and files that are new and that nobody uses."""
        return [str(path) for path in self.found() if path not in self.files and not is_used(path)]

    def found(self) -> Iterator[Path]:
        """Yield the folders and files of ours."""
        for place in self.places:
            with suppress(FileNotFoundError):
                yield from (path for path in place.iterdir() if OURS.fullmatch(path.name))

    def processes(self) -> list[str]:
        """Return the processes that the tests started, and what these started."""
        own = psutil.Process()
        mine = set(own.children(recursive=True))
        above = {own, *own.parents()}
        left = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process in above or process.status() == psutil.STATUS_ZOMBIE or is_helper(process):
                    continue
                if process in mine or process.environ().get(MARK) == self.mark:
                    left.append(f"process {process.pid}: {' '.join(process.cmdline())[:200]}")
        return left


def is_used(path: Path) -> bool:
    """Return whether a process holds it."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
