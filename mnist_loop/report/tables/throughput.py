"""The table of one sweep: images per second by batch size, part by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mnist_loop.report.contenders import PARTS
from mnist_loop.report.stored import Measurement, SweepResult
from mnist_loop.report.tables.table import Column, Table
from mnist_loop.support.numbers import Quantity, Unit, seconds, share

NOISY = 0.25  # 0.01 to 0.05 on a quiet machine; 0.3 to 6 with another process on the same cores
UNITS = "images/s: median [interquartile range in % of it]"
Parts = Mapping[str, Measurement]


def throughput_table(sweep: SweepResult) -> Table:
    """Return the table of a sweep: a row for each device and batch size."""
    rows: dict[tuple[str, int], dict[str, Measurement]] = {}
    for found in sweep.measurements:
        rows.setdefault((found.setting.device, found.workload.batch_size), {})[found.workload.part] = found
    others = dict.fromkeys(found.workload.part for found in sweep.measurements if found.workload.part not in PARTS)
    parts = (*PARTS, *others)
    return Table(
        title=f"{sweep.file.name}",
        columns=(
            Column("device", numbers=False),
            Column("batch size"),
            *map(Column, parts),
            Column("memory"),
            Column("limited by", numbers=False),
        ),
        rows=[
            (device, batch_size, *(_rate(of.get(part)) for part in parts), _memory(of.values()), limit(of))
            for (device, batch_size), of in sorted(rows.items())
        ],
        caption=caption(sweep),
        notes=tuple(notes(sweep)),
    )


def limit(parts: Parts) -> str:
    """Return which of input pipeline and step takes longer, and its share of their time together."""
    if not {"input pipeline", "step"} <= parts.keys():
        return ""
    took = {part: 1 / parts[part].median for part in ("input pipeline", "step")}
    slower = max(took, key=lambda part: took[part])
    return f"{slower.split()[0]} {share(took[slower] / sum(took.values()))}"


def caption(sweep: SweepResult) -> str:
    """Return machine, software and data of a sweep, and the unit."""
    machine = sweep.machine
    devices = {found.setting.device.split(":")[0] for found in sweep.measurements}
    cores = f"{machine.logical_cores} logical cores" if machine.logical_cores else ""
    where = [machine.cpu or machine.name, cores, *(machine.gpus if "cuda" in devices else ())]
    threads = sorted({found.setting.threads for found in sweep.measurements if found.setting.threads})
    data = dict.fromkeys(found.workload.data for found in sweep.measurements)
    software = [("torch", "torch"), ("Python", "python")]
    parts = (
        ", ".join(part for part in where if part),
        f"CPU threads: {', '.join(map(str, threads))}" if threads else "",
        ", ".join(f"{name} {sweep.software[key]}" for name, key in software if key in sweep.software),
        f"data: {', '.join(data)}" if data else "",
        UNITS,
    )
    return "; ".join(part for part in parts if part)


def notes(sweep: SweepResult) -> list[str]:
    """Return time to accuracy on each device, how many benchmarks scattered much, and how many are missing."""
    told = [
        f"{found.device}: {found.accuracy:.1%} test accuracy after {found.epochs} epochs: "
        f"{seconds(found.training_s)} of training, {seconds(found.evaluation_s)} of evaluation"
        for found in sweep.accuracies
    ]
    measured = len(sweep.measurements) + len(sweep.accuracies)
    noisy = sum(_spread(found) > NOISY for found in sweep.measurements)
    if noisy:
        told.append(
            f"{noisy} of {measured} benchmarks have an interquartile range above {share(NOISY)}: something else used "
            "the machine. Measure again when it is quiet, or with --threads 1, which suffers less."
        )
    if sweep.planned is not None and measured < sweep.planned:
        told.append(f"incomplete: {measured} of {sweep.planned} benchmarks were measured")
    return told


def _rate(found: Measurement | None) -> Quantity | None:
    return None if found is None else Quantity(found.median, Unit.RATE, spread=_spread(found))


def _spread(found: Measurement) -> float:
    return (found.q3 - found.q1) / found.median


def _memory(parts: Iterable[Measurement]) -> Quantity | None:
    peaks = [found.memory_mib for found in parts if found.memory_mib is not None]
    return Quantity(max(peaks), Unit.MEBIBYTES) if peaks else None
