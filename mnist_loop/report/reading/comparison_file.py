"""Reads a stored comparison: its log, judged by the statistics, becomes a `ComparisonResult`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import BinaryIO

from mnist_loop.report.facts import WITHOUT_VERDICT
from mnist_loop.report.reading.cell_results import cell_results
from mnist_loop.report.reading.log import Log, read_log
from mnist_loop.report.reading.node import InvalidResult, Node
from mnist_loop.report.reading.run_facts import read_machine, read_texts, state_facts
from mnist_loop.report.reading.text import clean
from mnist_loop.report.stored import ArmResult, CellResult, ComparisonResult, RulerResult, WorkloadId
from mnist_loop.support.limits import LARGEST_MARGIN, SMALLEST_MARGIN

KILLED = "killed: the file has no end"


def read_comparison(stream: BinaryIO, file: Path) -> ComparisonResult:
    """Return the comparison in ``stream``.

    Raises:
        InvalidResult: it is no comparison, or its values are impossible.
    """
    log = read_log(stream)
    plan, machine = log.header["plan"], log.header["machine"]
    arms = tuple(_arm(log, index, node) for index, node in enumerate(log.header["arms"]))
    _check_order(arms)
    found = tuple(cell_results(log, _workloads(log)))
    return ComparisonResult(
        file=file,
        when=log.header["started"].moment(),
        machine=read_machine(machine, machine["name"].text_or_none()),
        arms=arms,
        cells=found,
        margin=plan["margin"].between(SMALLEST_MARGIN, LARGEST_MARGIN),
        ended=log.why or KILLED,
        seconds=log.seconds,
        facts=_facts(log.header) | _without_verdict(log, arms, found),
    )


def _workloads(log: Log) -> dict[int, WorkloadId]:
    plan = log.header["plan"]
    part, data, model = plan["part"].text(), plan["data"].text(), plan["model"].text()
    return {size: WorkloadId(part, size, data, model) for size in sorted(log.batch_sizes)}


def _arm(log: Log, index: int, node: Node) -> ArmResult:
    warm_ups = {size: found for (arm, size), found in sorted(log.warm_ups.items()) if arm == index}
    firsts = {size: found[0][0] for size, found in warm_ups.items()}
    return ArmResult(
        label=node["label"].text(),
        software=read_texts(node["software"]),
        settings=read_texts(node["settings"]),
        control=node["control"].flag(),
        ruler=_median_ruler(log.rulers[index]) if log.rulers[index] else None,
        first_step_s={size: first for size, first in firsts.items() if first is not None},
        warm_up_s={size: median(steady for _, steady in found) for size, found in warm_ups.items()},
    )


def _check_order(arms: tuple[ArmResult, ...]) -> None:
    """Refuse arms of which not exactly the last is the control."""
    if not arms[-1].control or any(arm.control for arm in arms[:-1]):
        raise InvalidResult("the last arm, and no other, must be the control: expected what mnist-loop compare stored")


def _median_ruler(found: Sequence[RulerResult]) -> RulerResult:
    return RulerResult(
        gemm=median(ruler.gemm for ruler in found),
        copy=median(ruler.copy for ruler in found),
        dispatch=median(ruler.dispatch for ruler in found),
    )


def _without_verdict(log: Log, arms: Sequence[ArmResult], found: Sequence[CellResult]) -> dict[str, str]:
    """Name the arms and batch sizes that have no cell."""
    judged = {(cell.arm, cell.workload.batch_size) for cell in found}
    missing = [
        f"{arm.label} at batch size {size}"
        for size in sorted(log.batch_sizes)
        for index, arm in enumerate(arms[1:-1], start=1)
        if (index, size) not in judged
    ]
    return {WITHOUT_VERDICT: clean(", ".join(missing))} if missing else {}


def _facts(header: Node) -> dict[str, str]:
    def told() -> Iterator[tuple[str, str]]:
        plan = header["plan"]
        for name, key, unit in (("budget", "budget_s", " s"), ("block", "block_s", " s")):
            if not plan[key].missing:
                yield name, f"{plan[key].positive():g}{unit}"
        if not header["version"].missing:
            yield "mnist_loop", header["version"].text()
        yield from state_facts(header["state"].value).items()

    return dict(told())
