"""The clock: warm-up, calibration and timed rounds of a workload, through pytest-benchmark.

Warm-up is a number of its own. Each round starts from fresh state, ends when the device is done, and its
result is checked before its time counts.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import quantiles
from typing import Any

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mnist_loop.bench import machine
from mnist_loop.bench.memory import peak_memory
from mnist_loop.bench.workloads import Workload
from mnist_loop.support.device import synchronise

BLOCK_S = 0.05  # long beside the clock's resolution and a thread's wake-up, short beside a machine's drift
WARM_UP_S = 0.5  # lazy initialisation, caches and clock frequency settle in it
ROUNDS_S = 2.0
FEWEST_ROUNDS, MOST_ROUNDS = 10, 40  # quartiles need about ten values; more than forty tell little more
UNTIMED_STEPS = 2


@dataclass(frozen=True)
class WarmUp:
    """What came before the first round that counts.

    Attributes:
        first_step_s: seconds of the first step of all, with whatever is made on first use.
        seconds: seconds of the whole warm-up.
        steps: batches in a block, so that it takes about `BLOCK_S` seconds.
        rounds: blocks to measure, so that they take about `ROUNDS_S` seconds.
    """

    first_step_s: float
    seconds: float
    steps: int
    rounds: int


def measure(workload: Workload, benchmark: BenchmarkFixture) -> None:
    """Measure ``workload`` and note all about it in the benchmark's ``extra_info``.

    Where pytest-benchmark is disabled, the workload runs once, untimed, and its result is checked all the same.

    Raises:
        WrongResult: what was timed did not compute what it had to.
    """
    if benchmark.disabled:
        steps = workload.block(min(UNTIMED_STEPS, workload.most_steps))
        workload.check(benchmark.pedantic(workload.prepare(steps)), workload.expected(steps))
        return
    warm = warm_up(workload)
    with peak_memory(workload.device) as peak:
        _seconds(workload, warm.steps)
    expected = workload.expected(warm.steps)
    gc.collect()  # so that none is due in the rounds, during which pytest-benchmark keeps it off
    found: list[Any] = []
    starts: list[str] = []

    def setup() -> tuple[tuple[Callable[[], Any]], dict[str, Any]]:
        timed = workload.prepare(warm.steps)
        synchronise(workload.device)
        starts.append(datetime.now(timezone.utc).isoformat())
        return (timed,), {}

    def run(timed: Callable[[], Any]) -> None:
        found.append(timed())
        synchronise(workload.device)

    def check(timed: Callable[[], Any]) -> None:  # noqa: ARG001  # pytest-benchmark passes what setup returned
        workload.check(found.pop(), expected)

    benchmark.pedantic(run, setup=setup, teardown=check, rounds=warm.rounds)
    assert benchmark.stats is not None  # pedantic() has just made them
    seconds = benchmark.stats.stats.data
    images = warm.steps * min(workload.batch_size, len(workload.data.train))
    lower, middle, upper = quantiles((images / second for second in seconds), n=4, method="inclusive")
    benchmark.extra_info |= {
        "part": workload.name,
        "engine": workload.engine,
        "batch_size": workload.batch_size,
        "device": str(workload.device),
        "threads": torch.get_num_threads(),
        "data": workload.data.name,
        "steps": warm.steps,
        "images": images,
        "images_per_second": {"median": middle, "q1": lower, "q3": upper},
        "rounds": [{"start": start, "seconds": second} for start, second in zip(starts, seconds, strict=True)],
        "first_step_s": warm.first_step_s,
        "prepare_s": workload.prepare_s,
        "warm_up_s": warm.seconds,
        "peak_memory_mib": peak.mib,
        "peak_memory_how": peak.how,
        "state": machine.current_state(),
    }


def warm_up(workload: Workload) -> WarmUp:
    """Run ``workload`` until it is warm, and find out how many of its steps make a block."""
    started = time.perf_counter()
    first_step_s = _seconds(workload, steps=1)
    steps, block_s = 1, _seconds(workload, steps=1)
    while block_s < BLOCK_S and steps < workload.most_steps:
        enough = math.ceil(steps * BLOCK_S / block_s)
        steps = workload.block(min(enough, 10 * steps, workload.most_steps))
        block_s = _seconds(workload, steps)
    while time.perf_counter() - started < WARM_UP_S:
        block_s = _seconds(workload, steps)
    rounds = min(max(math.ceil(ROUNDS_S / block_s), FEWEST_ROUNDS), MOST_ROUNDS)
    return WarmUp(first_step_s, time.perf_counter() - started, steps, rounds)


def _seconds(workload: Workload, steps: int) -> float:
    timed = workload.prepare(steps)
    synchronise(workload.device)
    start = time.perf_counter()
    timed()
    synchronise(workload.device)
    return time.perf_counter() - start
