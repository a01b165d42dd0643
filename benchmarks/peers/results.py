"""The result of a run, as lines in a file and as what the table needs."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers import losses
from benchmarks.peers.entries import REFERENCE
from benchmarks.peers.run import FIRST, KIND, SCHEMA
from mnist_loop.errors import UserError
from mnist_loop.statistics.ratio import MOST_LOG, Ratio, paired_ratio

FEWEST_ROUNDS = 2  # for an interval


@dataclass
class Measured:
    """What was measured of one entry.

    Attributes:
        name: of the entry.
        start: its line of that event, where it came so far.
        seconds: of each epoch, by round.
        losses: of each epoch, by round.
        idle_cpu_s: CPU time that it took while others had their turn.
        failed: why it went no further; None where it did not fail.
        apart: the first round whose loss is not that of the reference; None where all are.
    """

    name: str
    start: dict[str, Any] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    idle_cpu_s: float = 0.0
    failed: str | None = None
    apart: int | None = None

    @property
    def rounds(self) -> dict[int, float]:
        """The seconds of the epochs that count: all but the first."""
        return {number: seconds for number, seconds in self.seconds.items() if number > FIRST}

    def rate(self, images: int) -> float | None:
        """Images per second, median; None where no epoch counts."""
        return images / median(self.rounds.values()) if self.rounds else None


@dataclass(frozen=True)
class Results:
    """A whole run.

    Attributes:
        head: its first line.
        entries: by name, in the order in which they were started.
        rulers: what the machine itself reached, before and after.
        ended: why it ended; None where it was killed.
    """

    head: dict[str, Any]
    entries: dict[str, Measured]
    rulers: Sequence[dict[str, Any]]
    ended: str | None

    @property
    def reference(self) -> Measured | None:
        """The lesson's loop, where it was measured."""
        return self.entries.get(REFERENCE)


def read(path: Path) -> Results:
    """Read a stored result; a last line that was cut short is passed over.

    Raises:
        UserError: it is not there, or no result of this command.
    """
    expected = "expected a result that python -m benchmarks.peers -o FILE stored"
    try:
        text = path.read_bytes()
        lines = [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), {expected}") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}), {expected}") from error
    if not lines or not all(isinstance(line, dict) for line in lines) or lines[0].get(KIND) != SCHEMA:
        raise UserError(f"{path}: not of this version, {expected}")
    return of_lines(lines)


def of_lines(lines: Sequence[dict[str, Any]]) -> Results:
    """Gather the lines of a run by entry, and compare the losses."""
    head, *events = lines
    entries: dict[str, Measured] = defaultdict(lambda: Measured(""))
    ended = None
    for event in events:
        if event["event"] == "end":
            ended = event["why"]
        if "entry" not in event:
            continue
        entry = entries[event["entry"]]
        entry.name = event["entry"]
        if event["event"] == "start":
            entry.start = event
        elif event["event"] == "failed":
            entry.failed = event["reason"]
        else:
            entry.seconds[event["round"]] = event["seconds"]
            entry.losses[event["round"]] = event["loss"]
            entry.idle_cpu_s += event["idle_cpu_s"]
    if REFERENCE in entries:
        limit = losses.tolerance(head["task"]["batch_size"], head["task"]["images"])
        for entry in entries.values():
            entry.apart = losses.first_apart(entry.losses, entries[REFERENCE].losses, limit)
    return Results(head, dict(entries), [event for event in events if event["event"] == "ruler"], ended)


def times_as_fast(entry: Measured, other: Measured) -> Ratio | None:
    """Return how many times as fast ``entry`` is as ``other``, from the rounds that both have; None without any.

    Each round is one value: the processes are started once, so what differs from start to start, about 1 % on this
    class of machine, is not in the interval. With one round there is none: its ends are no numbers.
    """
    numbers = sorted(entry.rounds.keys() & other.rounds.keys())
    logs = [math.log(other.rounds[number] / entry.rounds[number]) for number in numbers]
    if not logs or max(map(abs, logs)) > MOST_LOG:
        return None
    if len(logs) < FEWEST_ROUNDS:
        return Ratio(math.exp(logs[0]), math.nan, math.nan, 0.95, math.nan, 1, 1)
    return paired_ratio([[log] for log in logs])
