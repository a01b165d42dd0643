"""A stored comparison, made into a `Comparison`: the log says what was measured, the statistics what it means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import BinaryIO

from mnist_loop.report.facts import WITHOUT_VERDICT
from mnist_loop.report.model import Arm, Cell, Comparison, Ruler, Workload
from mnist_loop.report.reading import run
from mnist_loop.report.reading.cells import cells
from mnist_loop.report.reading.log import Log, read_log
from mnist_loop.report.reading.node import Misfit, Node
from mnist_loop.report.reading.text import clean
from mnist_loop.support.limits import LARGEST_MARGIN, SMALLEST_MARGIN

KILLED = "killed: the file has no end"


def comparison(stream: BinaryIO, file: Path) -> Comparison:
    """Return what the file at ``stream`` says.

    Raises:
        Misfit: it is no comparison, or one that cannot be right.
    """
    log = read_log(stream)
    plan, machine = log.header["plan"], log.header["machine"]
    arms = tuple(_arm(log, index, node) for index, node in enumerate(log.header["arms"]))
    _check_order(arms)
    found = tuple(cells(log, _workloads(log)))
    return Comparison(
        file=file,
        when=log.header["started"].moment(),
        machine=run.machine(machine, machine["name"].text_or_none()),
        arms=arms,
        cells=found,
        margin=plan["margin"].between(SMALLEST_MARGIN, LARGEST_MARGIN),
        ended=log.why or KILLED,
        seconds=log.seconds,
        facts=_facts(log.header) | _without_verdict(log, arms, found),
    )


def _workloads(log: Log) -> dict[int, Workload]:
    plan = log.header["plan"]
    part, data, model = plan["part"].text(), plan["data"].text(), plan["model"].text()
    return {size: Workload(part, size, data, model) for size in sorted(log.batch_sizes)}


def _arm(log: Log, index: int, node: Node) -> Arm:
    warm_ups = {size: found for (arm, size), found in sorted(log.warm_ups.items()) if arm == index}
    firsts = {size: found[0][0] for size, found in warm_ups.items()}
    return Arm(
        label=node["label"].text(),
        software=run.texts(node["software"]),
        settings=run.texts(node["settings"]),
        control=node["control"].flag(),
        ruler=_median_ruler(log.rulers[index]) if log.rulers[index] else None,
        first_step_s={size: first for size, first in firsts.items() if first is not None},
        warm_up_s={size: median(steady for _, steady in found) for size, found in warm_ups.items()},
    )


def _check_order(arms: tuple[Arm, ...]) -> None:
    """Refuse arms that are not the first, the others, and one control at the end."""
    if not arms[-1].control or any(arm.control for arm in arms[:-1]):
        raise Misfit("the last arm, and no other, must be the control: expected what mnist-loop compare stored")


def _median_ruler(found: Sequence[Ruler]) -> Ruler:
    return Ruler(
        gemm=median(ruler.gemm for ruler in found),
        copy=median(ruler.copy for ruler in found),
        dispatch=median(ruler.dispatch for ruler in found),
    )


def _without_verdict(log: Log, arms: Sequence[Arm], found: Sequence[Cell]) -> dict[str, str]:
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
        yield from run.state(header["state"].value).items()

    return dict(told())
