"""Stored sweeps side by side: which of them may be compared, and what is known of their difference.

Runs stored one after the other are weak evidence: the machine may change between them, and on a shared machine
identical code differed by 33 to 76%, however long it was measured. A difference is reported only where each side was
run several times in alternation. `mnist-loop compare` measures in pairs and needs none of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from mnist_loop.report import facts
from mnist_loop.report.shares import Shares, shares
from mnist_loop.report.stored import Machine, Measurement, RulerResult, Setting, SweepResult, WorkloadId
from mnist_loop.report.sweep_difference import SweepDifference, compare_runs

CONFIDENCE = 0.95  # that all verdicts of a report are right
Measured = tuple[SweepResult, Setting, list[Measurement]]  # what a sweep measured with one setting
PARTS = ("input pipeline", "step", "end to end", "evaluation")


@dataclass(frozen=True)
class SweepRun:
    """The measurements of one contender in one sweep."""

    sweep: SweepResult
    measured: Mapping[WorkloadId, Measurement]

    @property
    def when(self) -> datetime:
        """When the sweep began."""
        return datetime.fromisoformat(self.sweep.when)


@dataclass(frozen=True)
class Contender:
    """A machine, its software and a setting, which were run once or several times.

    Attributes:
        machine: of the first run.
        software: the same in all runs.
        setting: the same in all runs.
        runs: in the order of time.
        ruler: the median of the runs' rulers; None where no run has one.
    """

    machine: Machine
    software: Mapping[str, str]
    setting: Setting
    runs: tuple[SweepRun, ...]
    ruler: RulerResult | None

    @property
    def facts(self) -> dict[str, str]:
        """Machine, software, setting and the facts of the runs, name to value."""
        told = facts.common_run_facts([run.sweep.facts for run in self.runs])
        return told | facts.setting_facts(self.machine, self.software, self.setting)


@dataclass(frozen=True)
class ContenderResult:
    """One contender at one workload.

    Attributes:
        workload: what was done.
        contender: its place in the family.
        rates: median images per second of each run, in the order of time.
        rate: the median of these.
        shares: of the ruler, where there is one.
        evidence: the difference from the first contender; None for the first, and where the first lacks this workload.
    """

    workload: WorkloadId
    contender: int
    rates: tuple[float, ...]
    rate: float
    shares: Shares | None
    evidence: SweepDifference | None


@dataclass(frozen=True)
class Family:
    """Contenders with the same data and model. The others are compared with the first.

    Attributes:
        data: used by all.
        model: trained by all.
        contenders: in the order of the files.
        entries: by part, batch size and contender.
        facts: what the contenders share, and what they differ in.
        notes: sentences on what cannot be compared.
    """

    data: str
    model: str
    contenders: tuple[Contender, ...]
    entries: tuple[ContenderResult, ...]
    facts: facts.Facts
    notes: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """A short and unique name for each contender."""
        return _labels(self.contenders, self.facts)


@dataclass(frozen=True)
class SideBySide:
    """What can be compared in a set of sweeps.

    Attributes:
        families: with at least two runs each.
        refused: a sentence for each pair of works that are not the same.
    """

    families: tuple[Family, ...]
    refused: tuple[str, ...]


def put_side_by_side(sweeps: Sequence[SweepResult]) -> SideBySide:
    """Group sweeps of the same data and model, and compare their contenders."""
    works: dict[tuple[str, str], list[Contender]] = {}
    for (data, model), found in _by_work(sweeps).items():
        works[data, model] = _contenders(found)
    several = {
        work: contenders
        for work, contenders in works.items()
        if sum(len(contender.runs) for contender in contenders) > 1
    }
    comparisons = sum(
        len(run.measured)
        for contenders in several.values()
        for contender in contenders[1:]
        for run in contender.runs[:1]
    )
    confidence = 1 - (1 - CONFIDENCE) / max(1, comparisons)  # Bonferroni
    families = [_family(work, contenders, confidence) for work, contenders in several.items()]
    return SideBySide(tuple(families), tuple(_refusals(works)))


def same_machine(one: Machine, other: Machine) -> bool:
    """Whether two machines are of one kind: by their hashes where both have one, else by all their facts."""
    return one.hash == other.hash if one.hash and other.hash else one == other


def _by_work(
    sweeps: Sequence[SweepResult],
) -> dict[tuple[str, str], list[tuple[SweepResult, Setting, list[Measurement]]]]:
    works: dict[tuple[str, str], dict[tuple[int, Setting], list[Measurement]]] = {}
    for number, sweep in enumerate(sweeps):
        for found in sweep.measurements:
            work = works.setdefault((found.workload.data, found.workload.model), {})
            work.setdefault((number, found.setting), []).append(found)
    return {
        work: [(sweeps[number], setting, found) for (number, setting), found in parts.items()]
        for work, parts in works.items()
    }


def _contenders(found: Sequence[Measured]) -> list[Contender]:
    groups: dict[object, list[tuple[Setting, SweepRun]]] = {}
    for sweep, setting, measurements in found:
        machine = sweep.machine.hash or sweep.machine
        key = machine, tuple(sorted(sweep.software.items())), setting
        run = SweepRun(sweep, {one.workload: one for one in measurements})
        groups.setdefault(key, []).append((setting, run))
    contenders = []
    for members in groups.values():
        setting, first = members[0]
        runs = sorted((run for _, run in members), key=lambda run: run.when)
        rulers = [run.sweep.ruler[setting.device] for run in runs if setting.device in run.sweep.ruler]
        contenders.append(
            Contender(first.sweep.machine, first.sweep.software, setting, tuple(runs), _median_ruler(rulers))
        )
    return contenders


def _family(work: tuple[str, str], contenders: Sequence[Contender], confidence: float) -> Family:
    entries = sorted(
        (
            _entry(workload, number, contenders, confidence)
            for number, contender in enumerate(contenders)
            for workload in dict.fromkeys(workload for run in contender.runs for workload in run.measured)
        ),
        key=lambda entry: (_place(entry.workload), entry.contender),
    )
    told = facts.split_facts([contender.facts for contender in contenders])
    notes = _notes(contenders, _labels(contenders, told))
    return Family(*work, tuple(contenders), tuple(entries), told, tuple(notes))


def _labels(contenders: Sequence[Contender], told: facts.Facts) -> tuple[str, ...]:
    labels = [label or one.machine.name for label, one in zip(told.labels(), contenders, strict=True)]
    if len(set(labels)) == len(labels):
        return tuple(labels)
    # They differ in something that is no fact, such as the hash of the machine.
    return tuple(f"{label} ({number})" for number, label in enumerate(labels, start=1))


def _entry(workload: WorkloadId, number: int, contenders: Sequence[Contender], confidence: float) -> ContenderResult:
    contender, first = contenders[number], contenders[0]
    rates = _rates(contender, workload)
    rate = median(rates.values())
    base = _rates(first, workload)
    evidence = None
    if number and base and _comparable(first, contender):
        evidence = compare_runs(base, rates, confidence, same_machine=same_machine(first.machine, contender.machine))
    ruled = None if contender.ruler is None else shares(rate, workload, contender.ruler)
    return ContenderResult(workload, number, tuple(rates.values()), rate, ruled, evidence)


def _rates(contender: Contender, workload: WorkloadId) -> dict[datetime, float]:
    return {run.when: run.measured[workload].median for run in contender.runs if workload in run.measured}


def _comparable(first: Contender, other: Contender) -> bool:
    both_ruled = first.ruler is not None and other.ruler is not None
    return both_ruled or same_machine(first.machine, other.machine)


def _notes(contenders: Sequence[Contender], labels: Sequence[str]) -> list[str]:
    first = contenders[0]
    notes = []
    for contender, label in zip(contenders[1:], labels[1:], strict=True):
        if not _comparable(first, contender):
            without = labels[0] if first.ruler is None else label
            notes.append(
                f"{label} and {labels[0]} were measured on different machines, and there is no ruler of {without}: no "
                "ratio is shown. Measure again with this version, which measures the ruler too."
            )
        elif not {work for run in first.runs for work in run.measured} & {
            work for run in contender.runs for work in run.measured
        }:
            notes.append(f"{label} and {labels[0]} have no part and batch size in common: nothing is compared.")
    return notes


def _refusals(works: Mapping[tuple[str, str], Sequence[Contender]]) -> list[str]:
    """Say for all other data and models that they are not compared with the first."""
    if not works:
        return []
    first, *others = works.items()
    return [
        f"{_file(contenders)} measures {_work(first[0], work)[1]}, {_file(first[1])} {_work(first[0], work)[0]}: "
        "different work is not compared."
        for work, contenders in others
    ]


def _work(first: tuple[str, str], other: tuple[str, str]) -> tuple[str, str]:
    """Name two pairs of data and model by what they differ in."""
    if first[1] == other[1]:
        return first[0], other[0]
    return f"{first[0]} with model {first[1]}", f"{other[0]} with model {other[1]}"


def _file(contenders: Sequence[Contender]) -> str:
    return contenders[0].runs[0].sweep.file.name


def _place(workload: WorkloadId) -> tuple[int, str, int]:
    part = workload.part
    return PARTS.index(part) if part in PARTS else len(PARTS), part, workload.batch_size


def _median_ruler(rulers: Sequence[RulerResult]) -> RulerResult | None:
    if not rulers:
        return None
    return RulerResult(
        gemm=median(ruler.gemm for ruler in rulers),
        copy=median(ruler.copy for ruler in rulers),
        dispatch=median(ruler.dispatch for ruler in rulers),
    )
