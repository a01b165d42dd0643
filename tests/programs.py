"""Programs and processes that the tests start: none outlives its test, whatever becomes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a program whose output is read as text; kill it at the end of the block if it still runs."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **{**pipes, **options}) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def children() -> set[psutil.Process]:
    """Return what this process has started and still runs, and what that has started.

    The processes that find verdicts beside the tests (tests/verdicts.py) are left out: they have a lower priority.
    """
    own, found = psutil.Process(), set()
    for child in own.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if child.nice() <= own.nice():
                found.add(child)
    return found
