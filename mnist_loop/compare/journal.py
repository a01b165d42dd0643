"""The file of a comparison: JSON Lines, one event a line, each written as it happens.

The first line says what is compared (see docs/results.md). A kill loses at most the line that was being written.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from mnist_loop.errors import UserError
from mnist_loop.statistics.pairing import Block
from mnist_loop.support.limits import LARGEST_FILE, LONGEST_LINE, MIB
from mnist_loop.support.shown import shown

if sys.platform != "win32":
    import fcntl

SCHEMA = 1
KIND = "mnist_loop_comparison"
EXPECTED = "expected a comparison that mnist-loop compare stored"


class Journal:
    """An open file of JSON Lines, which no other journal can open before it is closed or its process has ended.

    Args:
        path: the file; made where it is not there yet. With ``head`` it must be new or empty.
        head: the first line of a comparison.

    Raises:
        UserError: it cannot be written, another process writes it, or it is not empty as it had to be.
    """

    def __init__(self, path: Path, head: dict[str, Any] | None = None) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file: TextIO = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
        try:
            self._lock()
            if head is not None:
                if self.size:
                    raise UserError(f"{path}: is there already, expected the name of a new file")
                self.write({KIND: SCHEMA, **head})
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.path.stat().st_size

    def write(self, event: dict[str, Any]) -> None:
        """Append one line, and hand it to the system at once.

        Raises:
            UserError: the disk is full, say; what was written before stays.
        """
        line = json.dumps(event) + "\n"
        if len(line) > LONGEST_LINE:
            raise UserError(f"{self.path}: a line of {len(line)} bytes found, expected at most {LONGEST_LINE}")
        try:
            self.file.write(line)
            self.file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); what was measured before is kept there"
            ) from error

    def end(self, why: str, seconds: float) -> None:
        """Write the last line, why the comparison ended and after how many seconds of measuring, and close the file."""
        self.write({"event": "end", "why": why, "seconds": seconds})
        self.close()

    def mend(self) -> None:
        """Cut a last record that a kill cut short, or end one that is whole, so that the next one has its own line.

        Raises:
            UserError: what comes last is no part of a record, or the file cannot be written.
        """
        try:
            content = self.path.read_bytes()
            _, kept = records(content)
            if kept < len(content):
                self.file.truncate(kept)
            elif content and not content.endswith(b"\n"):
                self.file.write("\n")
                self.file.flush()
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error
        except ValueError as error:
            raise UserError(f"{self.path}: damaged ({error}); it is left as it is") from error

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _lock(self) -> None:
        # Of the open file, not of the process: the system lifts it when that is closed, as any end of the process does;
        # what the process starts does not inherit it. Linux and macOS have it. On Windows nothing is locked.
        if sys.platform != "win32":
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{self.path}: another process writes it, expected a file of its own for each: wait until it ends"
                ) from None
            except OSError as error:
                raise UserError(f"{self.path}: cannot be locked ({error.strerror}); name a file elsewhere") from error


def reopen(path: Path) -> tuple[Journal, dict[str, Any], list[dict[str, Any]]]:
    """Open a stored comparison to go on with it; return its journal, its head, and its events. Nothing is written yet.

    Raises:
        UserError: it is not there, is no comparison of this version, or another process writes it.
    """
    read_head(path)  # before it is opened for writing
    journal = Journal(path)
    try:
        return journal, *read_journal(path)
    except BaseException:
        journal.close()
        raise


def read_journal(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read what a comparison has stored: its head, and its events. A last record that was cut short is left out.

    Raises:
        UserError: it is not there, or no comparison of this version.
    """
    head = read_head(path)
    try:
        content = path.read_bytes()
        (_, *events), _ = records(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), {EXPECTED}") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}), {EXPECTED}") from error
    if not all(isinstance(event, dict) and isinstance(event.get("event"), str) for event in events):
        raise UserError(f"{path}: damaged (a line without an event), {EXPECTED}")
    return head, events


def read_head(path: Path) -> dict[str, Any]:
    """Read the first line of a comparison.

    Raises:
        UserError: it is not there, no comparison of this version, or larger than one may be.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UserError(f"{path}: no regular file, {EXPECTED}")
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path}: larger than {LARGEST_FILE // MIB} MiB, {EXPECTED}")
        with path.open("rb") as file:
            head = _decoded(file.readline(LONGEST_LINE))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), {EXPECTED}") from error
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get(KIND) != SCHEMA:
        raise UserError(f"{path}: not of this kind and version, {EXPECTED}")
    return head


def records(content: bytes) -> tuple[list[Any], int]:
    """Return the records in JSON Lines, and how many bytes they take: the last one may have been cut short.

    Raises:
        ValueError: another line is no JSON, or the last is not the beginning of an object.
    """
    *lines, last = content.split(b"\n")
    records = [_decoded(line) for line in lines]
    if not last:
        return records, len(content)
    try:
        return [*records, _decoded(last)], len(content)
    except ValueError:
        if not records or not last.startswith(b'{"'[: len(last)]):
            raise
        return records, len(content) - len(last)


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def blocks(events: Iterable[dict[str, Any]]) -> list[Block]:
    """Return the blocks among ``events``.

    Raises:
        KeyError: one has not all values.
        ValueError: one has another value than a finite number.
    """
    names = Block.__dataclass_fields__
    found = [{name: event[name] for name in names} for event in events if event["event"] == "block"]
    for block in found:
        for name, value in block.items():
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ValueError(f"{name} {shown(value)} in a block")
    return [Block(**block) for block in found]


def unused(folder: Path, stem: str) -> Path:
    """Return a file name in ``folder`` that is free, with the time in it."""
    stem = f"{stem}_{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"
    path, number = folder / f"{stem}.jsonl", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.jsonl", number + 1
    return path
