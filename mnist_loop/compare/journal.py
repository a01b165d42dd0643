"""The file of a comparison: JSON Lines, one event a line, each written as it happens.

The first line says what is compared (see docs/results.md). A kill loses at most the line that was being written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from mnist_loop.errors import UserError
from mnist_loop.statistics.pairing import Block

SCHEMA = 1
KIND = "mnist_loop_comparison"


class Journal:
    """An open file of a comparison.

    Args:
        path: the file; made, with ``head``, where it is not there yet.
        head: the first line.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path: Path, head: dict[str, Any] | None = None) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file: TextIO = path.open("x" if head is not None else "a", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
        if head is not None:
            self.write({KIND: SCHEMA, **head})

    def write(self, event: dict[str, Any]) -> None:
        """Append one line, and hand it to the system at once.

        Raises:
            UserError: the disk is full, say; what was written before stays.
        """
        try:
            self.file.write(json.dumps(event) + "\n")
            self.file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); what was measured before is kept there"
            ) from error

    def end(self, why: str, seconds: float) -> None:
        """Write the last line, why the comparison ended and after how many seconds of measuring, and close the file."""
        self.write({"event": "end", "why": why, "seconds": seconds})
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def stored(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read what a comparison that is to go on has stored: its head, and its events.

    A last line that was cut short is dropped, from the file too, so that what follows begins on a line of its own.

    Raises:
        UserError: it is not there, or no comparison of this version.
    """
    expected = "expected a comparison that mnist-loop compare stored"
    try:
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        lines = [json.loads(line) for line in whole.splitlines()]
        if len(whole) < len(text):
            with path.open("r+b") as file:
                file.truncate(len(whole))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), {expected}") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}), {expected}") from error
    if not lines or not all(isinstance(line, dict) for line in lines) or lines[0].get(KIND) != SCHEMA:
        raise UserError(f"{path}: not of this version, {expected}")
    return lines[0], lines[1:]


def blocks(events: Iterable[dict[str, Any]]) -> list[Block]:
    """Return the blocks among ``events``."""
    names = Block.__dataclass_fields__
    return [Block(**{name: event[name] for name in names}) for event in events if event["event"] == "block"]


def unused(folder: Path, stem: str) -> Path:
    """Return a file name in ``folder`` that is free, with the time in it."""
    stem = f"{stem}_{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"
    path, number = folder / f"{stem}.jsonl", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.jsonl", number + 1
    return path
