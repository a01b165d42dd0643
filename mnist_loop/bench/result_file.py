"""The file of a sweep, written after each benchmark, so that a kill loses no finished one.

It is pytest-benchmark's JSON, which its tools read, with a section ``mnist_loop``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.support.files import write_atomically

SCHEMA = 2  # docs/results.md says what changed
STATS_IN_SECONDS = {"min", "max", "mean", "stddev", "median", "iqr", "q1", "q3", "ld15iqr", "hd15iqr", "total"}


class ResultFile:
    """The file of one sweep.

    Args:
        folder: of the file; made with the first result.
        stem: start of its name: machine, device and torch version; a time stamp follows.
        facts: the section ``mnist_loop``, which all benchmarks of the sweep share.
        planned: names of the benchmarks of the sweep.
    """

    def __init__(self, folder: Path, stem: str, facts: dict[str, Any], planned: Sequence[str]) -> None:
        now = datetime.now(timezone.utc)
        self.path = _unused(folder, f"{stem}_{now:%Y%m%d-%H%M%S}")
        self.document: dict[str, Any] = {
            "benchmarks": [],
            "mnist_loop": {"schema": SCHEMA, **facts, "planned": list(planned), "complete": False},
        }

    def add(self, document: dict[str, Any]) -> None:
        """Append the benchmarks of ``document``, which pytest-benchmark made, and write the file.

        Raises:
            UserError: the file cannot be written.
        """
        benchmarks = self.document["benchmarks"] + document["benchmarks"]
        self.document = {**document, "benchmarks": benchmarks, "mnist_loop": self.document["mnist_loop"]}
        finished = {benchmark["name"] for benchmark in benchmarks}
        self.document["mnist_loop"]["complete"] = finished >= set(self.document["mnist_loop"]["planned"])
        self.write()

    def write(self) -> None:
        """Write the document."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps(self.document, indent=1).encode())
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); the results stored there before are untouched"
            ) from error


def per_image(document: dict[str, Any]) -> dict[str, Any]:
    """Turn the statistics from seconds per block into seconds per image; return ``document``.

    The number of steps in a block differs between runs; numbers per image can be compared, and pytest-benchmark's OPS
    are images per second.
    """
    for benchmark in document["benchmarks"]:
        images = benchmark["extra_info"].get("images", 1)
        stats = benchmark["stats"]
        for name in STATS_IN_SECONDS & stats.keys():
            stats[name] /= images
        stats["data"] = [seconds / images for seconds in stats.get("data", [])]
        stats["ops"] *= images
    return document


def _unused(folder: Path, stem: str) -> Path:
    path, number = folder / f"{stem}.json", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.json", number + 1
    return path
