"""The clock: calibration and timed rounds of a workload, through pytest-benchmark.

Warm-up is timed apart. Each round starts from fresh state, ends when the device has finished, and counts once its
result is checked.
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
from mnist_loop.bench.workloads import TimedWorkload
from mnist_loop.support.device import synchronise

BLOCK_S = 0.05  # long beside the clock's resolution and a thread's wake-up, short beside a machine's drift
WARM_UP_S = 0.5  # lazy initialisation, caches and clock frequency settle in it
ROUNDS_S = 1.5  # of the lesson's twenty benchmarks: three quarters of a minute
FEWEST_ROUNDS, MOST_ROUNDS = 10, 30  # quartiles need about ten values; thirty are enough
UNTIMED_STEPS = 2


@dataclass(frozen=True)
class Calibration:
    """What comes before the first round that counts.

    Attributes:
        first_step_s: seconds of the very first step, initialisation included.
        seconds: seconds of the whole warm-up.
        steps: batches in a block, so that it takes about `BLOCK_S` seconds.
        rounds: blocks to measure, see `rounds_for`.
    """

    first_step_s: float
    seconds: float
    steps: int
    rounds: int


def measure_workload(workload: TimedWorkload, benchmark: BenchmarkFixture) -> None:
    """Measure ``workload``; write the result into the benchmark's ``extra_info``.

    Where pytest-benchmark is disabled, the workload runs once, untimed, and its result is checked.

    Raises:
        WrongResult: the result of the timed work is wrong.
    """
    if benchmark.disabled:
        steps = workload.block(min(UNTIMED_STEPS, workload.most_steps))
        workload.check(benchmark.pedantic(workload.prepare(steps)), workload.expected(steps))
        return
    warm = calibrate(workload)
    with peak_memory(workload.device) as peak:
        _seconds(workload, warm.steps)
    if workload.tolerance(warm.steps) > workload.tolerance(1):
        workload.check_first(warm.steps)
    expected = workload.expected(warm.steps)
    gc.collect()  # pytest-benchmark switches it off for the rounds
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
        workload.check(found.pop(), expected, warm.steps)

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


def calibrate(workload: TimedWorkload) -> Calibration:
    """Run ``workload`` until it is warm; find how many of its steps make a block."""
    started = time.perf_counter()
    first_step_s = _seconds(workload, steps=1)
    steps, block_s = 1, _seconds(workload, steps=1)
    while block_s < BLOCK_S and steps < workload.most_steps:
        enough = math.ceil(steps * BLOCK_S / block_s)
        steps = workload.block(min(enough, 10 * steps, workload.most_steps))
        block_s = _seconds(workload, steps)
    while time.perf_counter() - started < WARM_UP_S:
        block_s = _seconds(workload, steps)
    return Calibration(first_step_s, time.perf_counter() - started, steps, rounds_for(block_s))


def rounds_for(block_s: float) -> int:
    """Return how many blocks of that length to measure, so that they take about `ROUNDS_S` seconds."""
    return min(max(math.ceil(ROUNDS_S / block_s), FEWEST_ROUNDS), MOST_ROUNDS)


def _seconds(workload: TimedWorkload, steps: int) -> float:
    timed = workload.prepare(steps)
    synchronise(workload.device)
    start = time.perf_counter()
    timed()
    synchronise(workload.device)
    return time.perf_counter() - start
