"""The stored lines of a run, gathered by entry."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.statistics.ratio import MOST_LOG, Ratio, paired_ratio

from . import losses
from .entries import REFERENCE
from .rounds import FIRST, KIND, SCHEMA

FEWEST_ROUNDS = 2  # for an interval


@dataclass
class MeasuredEntry:
    """What was measured of one entry.

    Attributes:
        name: of the entry.
        start: the line of its start; empty before.
        seconds: of each epoch, by round.
        losses: of each epoch, by round.
        idle_cpu_s: CPU time that it took during the other entries' epochs.
        failed: why it stopped; None where it did not fail.
        apart: the first round whose loss differs from the reference's; None where none does.
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
class PeersOutcome:
    """A whole run.

    Attributes:
        head: its first line.
        entries: by name, in the order in which they were started.
        rulers: the rates of the machine, before and after.
        ended: why it ended; None where it was killed.
    """

    head: dict[str, Any]
    entries: dict[str, MeasuredEntry]
    rulers: Sequence[dict[str, Any]]
    ended: str | None

    @property
    def reference(self) -> MeasuredEntry | None:
        """The lesson's loop; None where it was not measured."""
        return self.entries.get(REFERENCE)


def read_outcome(path: Path) -> PeersOutcome:
    """Read a stored result; an incomplete last line is left out.

    Raises:
        UserError: it cannot be read, or is no result of this command.
    """
    expected = f"expected a result that python -m {__package__} -o FILE stored"
    try:
        text = path.read_bytes()
        lines = [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), {expected}") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}), {expected}") from error
    if not lines or not all(isinstance(line, dict) for line in lines) or lines[0].get(KIND) != SCHEMA:
        raise UserError(f"{path}: not of this version, {expected}")
    return outcome_of(lines)


def outcome_of(lines: Sequence[dict[str, Any]]) -> PeersOutcome:
    """Gather the lines of a run by entry, and compare the losses."""
    head, *events = lines
    entries: dict[str, MeasuredEntry] = defaultdict(lambda: MeasuredEntry(""))
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
    return PeersOutcome(head, dict(entries), [event for event in events if event["event"] == "ruler"], ended)


def times_as_fast(entry: MeasuredEntry, other: MeasuredEntry) -> Ratio | None:
    """Return how many times as fast ``entry`` is as ``other``, from the rounds that both have; None without any.

    Each round is one value. The processes are started once, so the interval leaves out the differences between starts,
    about 1 % on this class of machine. One round has no interval: its ends are NaN.
    """
    numbers = sorted(entry.rounds.keys() & other.rounds.keys())
    logs = [math.log(other.rounds[number] / entry.rounds[number]) for number in numbers]
    if not logs or max(map(abs, logs)) > MOST_LOG:
        return None
    if len(logs) < FEWEST_ROUNDS:
        return Ratio(math.exp(logs[0]), math.nan, math.nan, 0.95, math.nan, 1, 1)
    return paired_ratio([[log] for log in logs])
