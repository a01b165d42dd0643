"""What a report reads: stored sweeps and comparisons, and the files that were refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mnist_loop.statistics.ratio import Ratio
from mnist_loop.statistics.speed_verdict import SpeedVerdict


@dataclass(frozen=True)
class Machine:
    """The machine that was measured; facts that its system did not give are None.

    Attributes:
        name: for people and files: model, number of CPUs, start of the hash.
        hash: equal for machines of one kind.
        cpu: model of the CPU.
        logical_cores: of the machine, regardless of affinity and control groups.
        memory_gib: rounded up.
        system: "Linux", say.
        gpus: their models.
    """

    name: str
    hash: str | None = None
    cpu: str | None = None
    logical_cores: int | None = None
    memory_gib: int | None = None
    system: str | None = None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class RulerResult:
    """What the machine can do, measured in the same run as the results.

    Attributes:
        gemm: rate of large float32 matrix products, FLOP/s.
        copy: bandwidth of a large copy, bytes read and written a second.
        dispatch: seconds for one operation on a tensor of one element.
    """

    gemm: float
    copy: float
    dispatch: float


@dataclass(frozen=True, order=True)
class WorkloadId:
    """What was measured: only results with equal workloads are compared."""

    part: str
    batch_size: int
    data: str
    model: str = "784-128-10"


@dataclass(frozen=True, order=True)
class Setting:
    """The settings of a measurement, which may differ between compared results."""

    device: str = "cpu"
    threads: int | None = None
    dtype: str = "float32"


@dataclass(frozen=True)
class Measurement:
    """The throughput of one workload in one sweep.

    Attributes:
        workload: what was measured.
        setting: with which settings.
        rates: images per second, one a round, in the order of time.
        median: images per second.
        q1: lower quartile of the rates.
        q3: upper quartile.
        low: lower end of the 95% interval of the median.
        high: its upper end.
        steps: batches in a round.
        first_step_s: seconds of the first step of all.
        warm_up_s: seconds of the warm-up, its first step included.
        memory_mib: the largest increase of the process's memory.
    """

    workload: WorkloadId
    setting: Setting
    rates: tuple[float, ...]
    median: float
    q1: float
    q3: float
    low: float
    high: float
    steps: int | None = None
    first_step_s: float | None = None
    warm_up_s: float | None = None
    memory_mib: float | None = None


@dataclass(frozen=True)
class Accuracy:
    """The time to accuracy of the lesson on one device, as `benchmarks/test_time_to_accuracy.py` stored it."""

    device: str
    accuracy: float
    epochs: int
    training_s: float
    evaluation_s: float


@dataclass(frozen=True)
class SweepResult:
    """One stored run of the benchmark suite on one machine.

    Attributes:
        file: where it is stored.
        when: ISO 8601, of its first benchmark.
        machine: where it was measured.
        software: versions: ``torch``, ``python``, ... as strings.
        measurements: in the order of the file.
        ruler: of each device, where it was measured.
        accuracies: time to accuracy, where it was measured.
        planned: the number of benchmarks that were planned.
        facts: other facts of the run (state, settings), name to value, as text.
    """

    file: Path
    when: str
    machine: Machine
    software: Mapping[str, str]
    measurements: tuple[Measurement, ...]
    ruler: Mapping[str, RulerResult] = field(default_factory=dict)
    accuracies: tuple[Accuracy, ...] = ()
    planned: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ArmResult:
    """One arm of a stored comparison.

    Attributes:
        label: as typed.
        software: as in `SweepResult`.
        settings: name to value.
        control: whether it is the second copy of the first arm, which shows by how much identical code differs.
        ruler: measured in its worker.
        first_step_s: seconds of its very first step, compilation included; by batch size.
        warm_up_s: seconds until the change-point after which it is steady; by batch size.
    """

    label: str
    software: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    control: bool = False
    ruler: RulerResult | None = None
    first_step_s: Mapping[int, float] = field(default_factory=dict)
    warm_up_s: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """One round: its start in seconds since the comparison began, and log(time of the arm / time of the first arm)."""

    start: float
    generation: int
    log_ratio: float


@dataclass(frozen=True)
class CellResult:
    """One arm compared with the first, at one batch size.

    Attributes:
        workload: of both arms.
        arm: index of the arm in the comparison.
        ratio: time of the arm / time of the first arm, with its interval; above 1 the arm is slower.
        verdict: on the ratio.
        reason: in one sentence, with figures.
        detectable: the smallest change, as a share (0.02 for 2%), that a run like this detects.
        pairs: the rounds behind the ratio.
        control: the ratio of the second copy of the first arm to the first arm, in the same run.
        control_pairs: the rounds behind the control.
        base_rate: images per second of the first arm, median of the blocks.
        rate: images per second of the arm.
    """

    workload: WorkloadId
    arm: int
    ratio: Ratio
    verdict: SpeedVerdict
    reason: str
    detectable: float
    pairs: tuple[Pair, ...]
    control: Ratio | None
    control_pairs: tuple[Pair, ...]
    base_rate: float
    rate: float


@dataclass(frozen=True)
class ComparisonResult:
    """One stored paired run.

    Attributes:
        file: where it is stored.
        when: ISO 8601.
        machine: where it was measured.
        arms: the others are compared with the first; the last is the control.
        cells: one for each batch size and each arm but the first and the control.
        margin: share below which a difference does not matter (0.01 for 1%).
        ended: "certain", "budget", "interrupted", or another reason.
        seconds: how long it measured.
        facts: other facts of the run, name to value, as text.
    """

    file: Path
    when: str
    machine: Machine
    arms: tuple[ArmResult, ...]
    cells: tuple[CellResult, ...]
    margin: float
    ended: str
    seconds: float
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A file that is not in the report, with the reason in one sentence."""

    file: Path
    reason: str


@dataclass(frozen=True)
class StoredResults:
    """All results of a report."""

    sweeps: tuple[SweepResult, ...] = ()
    comparisons: tuple[ComparisonResult, ...] = ()
    refused: tuple[Refused, ...] = ()
