"""Reads a stored sweep: pytest-benchmark's JSON with the section ``mnist_loop``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mnist_loop.report.reading.node import MOST_IMAGES, InvalidResult, Node
from mnist_loop.report.reading.rates import FEWEST, median_and_quartiles, median_interval
from mnist_loop.report.reading.run_facts import read_machine, read_ruler, read_texts, state_facts
from mnist_loop.report.reading.schema import sweep_section
from mnist_loop.report.reading.text import clean
from mnist_loop.report.stored import Accuracy, Measurement, RulerResult, Setting, SweepResult, WorkloadId

MOST_BENCHMARKS = 10_000
MOST_ROUNDS = 10_000
MOST_RULERS = 64
COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
LARGEST_BATCH = 2**31
TIME_TO_ACCURACY = "time to accuracy"
MODEL = "784-128-10"  # where none is stored


def read_sweep(document: Any, file: Path) -> SweepResult:
    """Return the sweep in a decoded document.

    Raises:
        InvalidResult: it is no result of this suite, or its values are impossible.
    """
    section = sweep_section(document)
    root = Node(document)
    infos = _infos(root)
    measurements = tuple(_measurement(info, section) for info in infos if info["part"].value != TIME_TO_ACCURACY)
    _refuse_repeated(measurements)
    return SweepResult(
        file=file,
        when=_when(root, infos),
        machine=read_machine(section["identity"], _node_name(root)),
        software=read_texts(section["software"]),
        measurements=measurements,
        ruler=_rulers(section["ruler"]),
        accuracies=tuple(_accuracy(info) for info in infos if info["part"].value == TIME_TO_ACCURACY),
        planned=None if section["planned"].missing else len(list(section["planned"])),
        facts=_facts(section, measurements) | _commit(root),
    )


def _infos(root: Node) -> list[Node]:
    """Return the ``extra_info`` of each benchmark of this suite; benchmarks of other suites are left out."""
    benchmarks = list(root["benchmarks"])
    if len(benchmarks) > MOST_BENCHMARKS:
        raise InvalidResult(f"{len(benchmarks)} benchmarks found, expected at most {MOST_BENCHMARKS}")
    infos = [benchmark["extra_info"] for benchmark in benchmarks]
    ours = [info for info in infos if not info.missing and not info["part"].missing]
    if not ours:
        raise InvalidResult("no benchmark of mnist-loop in it: expected a result that mnist-loop bench stored")
    return ours


def _measurement(info: Node, section: Node) -> Measurement:
    images = info["images"].count(most=MOST_IMAGES)
    seconds = info["rounds"].positives("seconds")
    if not FEWEST <= len(seconds) <= MOST_ROUNDS:
        raise InvalidResult(f"{info.where} has {len(seconds)} rounds, expected {FEWEST} to {MOST_ROUNDS}")
    rates = tuple(images / second for second in seconds)
    q1, median, q3 = median_and_quartiles(rates)
    low, high = median_interval(rates)
    threads = info["threads"] if not info["threads"].missing else section["threads"]
    return Measurement(
        workload=WorkloadId(
            part=info["part"].text(),
            batch_size=info["batch_size"].count(most=LARGEST_BATCH),
            data=_first(info["data"], section["data"]).text(),
            model=_first(info["model"], section["model"]).text_or_none() or MODEL,
        ),
        setting=Setting(
            device=info["device"].text(),
            threads=threads.count_or_none(),
            dtype=_first(info["dtype"], section["dtype"]).text(),
        ),
        rates=rates,
        median=median,
        q1=q1,
        q3=q3,
        low=low,
        high=high,
        steps=info["steps"].count_or_none(),
        first_step_s=info["first_step_s"].positive_or_none(),
        warm_up_s=info["warm_up_s"].positive_or_none(),
        memory_mib=info["peak_memory_mib"].positive_or_none(),
    )


def _accuracy(info: Node) -> Accuracy:
    accuracy = info["accuracy"].not_negative()
    if accuracy > 1.0:
        raise info["accuracy"].misfit("a share from 0 to 1")
    return Accuracy(
        device=info["device"].text(),
        accuracy=accuracy,
        epochs=info["epochs"].count(),
        training_s=info["training_s"].positive(),
        evaluation_s=info["evaluation_s"].positive(),
    )


def _refuse_repeated(measurements: tuple[Measurement, ...]) -> None:
    """Refuse a file with two measurements of one workload and setting."""
    seen: set[tuple[WorkloadId, Setting]] = set()
    for measurement in measurements:
        key = measurement.workload, measurement.setting
        if key in seen:
            part, batch_size = measurement.workload.part, measurement.workload.batch_size
            raise InvalidResult(f"measures {part} at batch size {batch_size} on {measurement.setting.device} twice")
        seen.add(key)


def _when(root: Node, infos: list[Node]) -> str:
    """Return the start of the first round, or else the date of the file."""
    rounds = infos[0]["rounds"]
    first = next(iter(rounds), None) if not rounds.missing else None
    if first is not None and not first["start"].missing:
        return first["start"].moment()
    return root["datetime"].moment()


def _facts(section: Node, measurements: tuple[Measurement, ...]) -> dict[str, str]:
    facts = state_facts(section["state"].value)
    threads = sorted({str(found.setting.threads) for found in measurements if found.setting.threads})
    return {"CPU threads": ", ".join(threads), **facts} if threads else facts


def _commit(root: Node) -> dict[str, str]:
    """Return the commit of the repository that was measured, where pytest-benchmark found one."""
    info = root["commit_info"]
    commit = info["id"].text_or_none() if isinstance(info.value, dict) else None
    return {"commit": commit} if commit and COMMIT.fullmatch(commit) else {}


def _node_name(root: Node) -> str | None:
    info = root["machine_info"]
    return info["node"].text_or_none() if isinstance(info.value, dict) else None


def _rulers(node: Node) -> dict[str, RulerResult]:
    if node.missing:
        return {}
    node["any"]  # which refuses what has no names
    if len(node.value) > MOST_RULERS:
        raise node.misfit(f"at most {MOST_RULERS} devices")
    return {clean(device): read_ruler(node[device]) for device in node.value}


def _first(*nodes: Node) -> Node:
    return next((node for node in nodes if not node.missing), nodes[-1])
