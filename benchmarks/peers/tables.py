"""A run as Markdown: a table of all entries, and one of the ratios of interest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import Any

from mnist_loop.report.tables.markdown import to_markdown
from mnist_loop.report.tables.table import Column, Table
from mnist_loop.statistics.ratio import Ratio
from mnist_loop.support import numbers

from . import losses
from .entries import REFERENCE
from .outcome import MeasuredEntry, PeersOutcome, times_as_fast
from .rounds import FIRST

COLUMNS = (
    Column("entry", numbers=False),
    Column("version", numbers=False),
    Column("used", numbers=False),
    Column("images/s"),
    Column("times as fast as the reference"),
    Column("start"),
    Column("first epoch"),
    Column("loss"),
)
# Of the second column the fastest entry that was measured counts.
SOUGHT = (
    ("compiled", ("reference",)),
    ("resident", ("reference",)),
    ("compiled", ("lightning-memory", "fabric")),
    ("compiled", ("jax-scan",)),
    ("native", ("reference",)),
    ("native", ("lightning-memory", "fabric")),
    ("native", ("jax-scan",)),
)
NOTHING = "-"
IDLE = 0.01  # share of the others' time in which an entry may have worked unasked


def peers_markdown(results: PeersOutcome) -> str:
    """Return both tables with their notes."""
    return to_markdown([_entries(results), _sought(results)])


def _entries(results: PeersOutcome) -> Table:
    order = sorted((entry for entry in results.entries.values() if entry.start), key=lambda one: _rank(one, results))
    return Table(
        title="One epoch of the lesson",
        columns=COLUMNS,
        rows=[_row(entry, results) for entry in order],
        caption=_caption(results),
        notes=list(_notes(results)),
    )


def _rank(entry: MeasuredEntry, results: PeersOutcome) -> float:
    ratio = _to_reference(entry, results)
    return math.inf if ratio is None else -ratio.estimate


def _row(entry: MeasuredEntry, results: PeersOutcome) -> list[str]:
    rate = entry.rate(results.head["task"]["images"])
    ratio = _to_reference(entry, results)
    prepared = entry.start["prepare_s"]
    start = numbers.seconds(entry.start["seconds"])
    return [
        entry.name,
        ", ".join(f"{name} {version}" for name, version in entry.start["versions"].items()),
        entry.start["used"],
        NOTHING if rate is None else numbers.short(rate),
        _beside(entry, ratio),
        f"{start} + {numbers.seconds(prepared)}" if prepared else start,
        numbers.seconds(entry.seconds[FIRST]) if FIRST in entry.seconds else NOTHING,
        f"{entry.losses[max(entry.losses)]:.4f}" if entry.losses else NOTHING,
    ]


def _beside(entry: MeasuredEntry, ratio: Ratio | None) -> str:
    if entry.apart is not None:
        return "trains something else"
    return "1" if entry.name == REFERENCE and ratio is not None else _with_interval(ratio)


def _to_reference(entry: MeasuredEntry, results: PeersOutcome) -> Ratio | None:
    """Return the ratio of an entry that trains what the reference trains."""
    if results.reference is None or entry.apart is not None:
        return None
    return times_as_fast(entry, results.reference)


def _with_interval(ratio: Ratio | None) -> str:
    if ratio is None:
        return NOTHING
    text = numbers.ratio(ratio.estimate)
    return text if math.isnan(ratio.low) else f"{text} {numbers.Interval(ratio.low, ratio.high)}"


def _caption(results: PeersOutcome) -> str:
    head = results.head
    task, software = head["task"], head["software"]
    rounds = max((max(entry.rounds, default=0) for entry in results.entries.values()), default=0)
    return "; ".join(
        [
            f"{head['machine']['cpu']}, {head['machine']['logical_cores']} logical cores",
            f"CPU threads: {head['plan']['threads']}",
            f"torch {software['torch']}, Python {software['python']}",
            f"data: {task['data']}, {task['images']} images, batch size {task['batch_size']}",
            f"images/s: median of {rounds} epochs; ratio: paired by round, 95% interval",
            "start: imports and building, + preparing; loss: of the last epoch",
        ]
    )


def _notes(results: PeersOutcome) -> Iterator[str]:
    task = results.head["task"]
    limit = losses.tolerance(task["batch_size"], task["images"])
    for entry in results.entries.values():
        if entry.apart is not None and results.reference is not None:
            yield (
                f"{entry.name} trains something else: its loss of epoch {entry.apart + 1} is "
                f"{entry.losses[entry.apart]:.4f}, that of the reference {results.reference.losses[entry.apart]:.4f}; "
                f"{limit:.0%} may be due to another order of the images."
            )
        if entry.start.get("note"):
            yield f"{entry.name}: {entry.start['note']}."
        if entry.failed is not None:
            yield f"{entry.name} {'stopped' if entry.rounds else 'did not run'}: {entry.failed}."
    yield from _idle(results)
    if results.reference is None or not results.reference.rounds:
        yield "The reference was not measured: no ratios."
    if results.ended != "done":
        yield f"The run did not come to its end: {results.ended or 'it was killed'}."
    if results.rulers:
        yield f"Large matrix products reach {' and then '.join(_gemm(ruler) for ruler in results.rulers)}."


def _gemm(ruler: dict[str, Any]) -> str:
    return numbers.with_unit(ruler["gemm"], "FLOP/s")


def _idle(results: PeersOutcome) -> Iterator[str]:
    total = sum(sum(entry.seconds.values()) for entry in results.entries.values())
    for entry in results.entries.values():
        others = total - sum(entry.seconds.values())
        if others > 0 and entry.idle_cpu_s > IDLE * others:
            yield f"{entry.name} worked in the others' turns: for {entry.idle_cpu_s / others:.1%} of them."


def _sought(results: PeersOutcome) -> Table:
    rows = []
    for name, others in SOUGHT:
        sound = [one for one in (results.entries.get(each) for each in (name, *others)) if _counts(one)]
        found = {entry.name: entry for entry in sound if entry is not None}
        rest = [found[other] for other in others if other in found]
        if name in found and rest:
            other = min(rest, key=lambda one: median(one.rounds.values()))
            rows.append([f"{name} / {other.name}", _with_interval(times_as_fast(found[name], other))])
    if not rows:
        return Table("", [], [])
    return Table("What is sought", (Column("entries", numbers=False), Column("times as fast")), rows)


def _counts(entry: MeasuredEntry | None) -> bool:
    return entry is not None and bool(entry.rounds) and entry.apart is None
