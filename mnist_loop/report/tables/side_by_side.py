"""The tables of sweeps side by side: the facts that differ, and ratios with verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mnist_loop.report.contenders import ContenderResult, Family, SideBySide
from mnist_loop.report.facts import Facts
from mnist_loop.report.shares import Shares
from mnist_loop.report.stored import Machine, RulerResult
from mnist_loop.report.tables.table import Column, Table, Value
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from mnist_loop.support.numbers import Quantity, Unit

NOT_MEASURED = "not measured"
RULED = (
    "of matrix products, of copy: share of the ruler that the products, and reading the images once, take; batch in "
    "dispatches: operations on one element that could be started in the time of a batch"
)
MOST_COLUMNS = 6  # of results in the table of facts; with more, rows and columns are exchanged


def side_by_side_tables(found: SideBySide) -> Iterator[Table]:
    """Yield two tables for each family of sweeps, and one that says what is not compared."""
    for family in found.families:
        if len(family.contenders) > 1:
            rulers = [one.ruler for one in family.contenders]
            yield differences("What differs", family.labels, family.facts, rulers, _shared_by(family))
        yield _rates(family)
    if found.refused:
        yield Table("Not compared", (), (), notes=found.refused)


def differences(
    title: str, labels: Sequence[str], found: Facts, rulers: Sequence[RulerResult | None], caption: str = ""
) -> Table:
    """Return the facts that differ and the rulers, in a column for each result; shared facts are the caption."""
    columns = [Column("", numbers=False), *(Column(label, numbers=False) for label in labels)]
    rows: list[tuple[Value, ...]] = [(name, *values) for name, values in found.differing.items()]
    rows += list(_ruler_rows(rulers))
    if len(labels) > MOST_COLUMNS:  # on its side
        columns = [Column("", numbers=False), *(Column(str(row[0]), numbers=False) for row in rows)]
        rows = [(label, *(row[place + 1] for row in rows)) for place, label in enumerate(labels)]
    return Table(title, columns, rows, caption or shared(found))


def shared(found: Facts) -> str:
    """Return the facts that all results share, in one sentence."""
    return "the same for all: " + ", ".join(f"{name} {value}" for name, value in found.shared.items())


def _shared_by(family: Family) -> str:
    return f"{shared(family.facts)}, data {family.data}, model {family.model}"


def _ruler_rows(rulers: Sequence[RulerResult | None]) -> Iterator[tuple[Value, ...]]:
    if any(rulers):
        for name, of, unit in (
            ("matrix products", "gemm", Unit.FLOP_PER_SECOND),
            ("copy", "copy", Unit.BYTES_PER_SECOND),
            ("dispatch", "dispatch", Unit.SECONDS),
        ):
            yield f"ruler: {name}", *(Quantity(getattr(one, of), unit) if one else NOT_MEASURED for one in rulers)


def _rates(family: Family) -> Table:
    labels = family.labels
    ruled = any(entry.shares for entry in family.entries)
    headings = ["part", "batch size", "result", "runs", "images/s"]
    headings += ["of matrix products", "of copy", "batch in dispatches"] if ruled else []
    text = {"part", "result", "verdict"}
    columns = [Column(name, name not in text) for name in (*headings, "time ratio", "verdict")]
    rows = [
        (
            entry.workload.part,
            entry.workload.batch_size,
            labels[entry.contender],
            len(entry.rates),
            Quantity(entry.rate, Unit.RATE),
            *(_shares(entry.shares) if ruled else ()),
            _ratio(entry),
            _verdict(entry),
        )
        for entry in family.entries
    ]
    confidence = "intervals are at a confidence that holds for all of them together, 95%"
    told = any(entry.evidence and entry.evidence.interval for entry in family.entries)
    caption = f"time ratio: time of the result / time of {labels[0]}; above 1 it is slower"
    caption += f"; {confidence}" if told else ""
    caption += f"; {RULED}" if ruled else ""
    title = f"Compared with {labels[0]}" if len(labels) > 1 else f"{len(family.contenders[0].runs)} runs of {labels[0]}"
    return Table(title, columns, rows, caption, (*_reasons(family), *family.notes))


def _reasons(family: Family) -> Iterator[str]:
    """Yield each reason of an undecided entry once."""
    reasons = dict.fromkeys(
        entry.evidence.reason
        for entry in family.entries
        if entry.evidence and entry.evidence.verdict is SpeedVerdict.INCONCLUSIVE
    )
    yield from (reason[:1].upper() + reason[1:] for reason in reasons)
    machines: list[Machine] = [contender.machine for contender in family.contenders]
    if len({machine.hash or machine.name for machine in machines}) > 1:
        yield "Different machines: a ratio holds for them as busy as they were; the ruler tells what each can do."


def _verdict(entry: ContenderResult) -> str | None:
    """Return the verdict on an entry, compared with the first."""
    if entry.contender == 0:
        return "the first"
    if entry.evidence is None:
        return None
    told = entry.evidence.verdict
    return "no difference can be told" if told is SpeedVerdict.INCONCLUSIVE else told.value


def _ratio(entry: ContenderResult) -> Quantity | None:
    found = entry.evidence
    return None if found is None else Quantity(found.ratio, Unit.RATIO, found.interval)


def _shares(found: Shares | None) -> tuple[Value, Value, Value]:
    if found is None:
        return None, None, None
    gemm, copy = (None if one is None else Quantity(one, Unit.SHARE) for one in (found.gemm, found.copy))
    return gemm, copy, Quantity(found.dispatches, Unit.RATE)
