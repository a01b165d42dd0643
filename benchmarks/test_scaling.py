"""Scaling: an epoch of the engine ``distributed`` in one process and in two, beside ``resident`` in one.

On the CPU, with one thread a process and gloo between them. Torchrun starts the processes for each turn; they time
whole epochs after a few untimed steps. This file is also their program.
"""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import pytest
import torch
import torch.distributed as processes

from mnist_loop.bench import machine
from mnist_loop.bench.workloads import EpochWorkload
from mnist_loop.data import load_data

from .quartiles import quartiles

# Not in the default sweep: run it with -m slow.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (processes.is_available() and processes.is_gloo_available()),
        reason="this torch has no torch.distributed with gloo",
    ),
]

BASE = "resident"
ARMS = {BASE: 1, "distributed 1": 1, "distributed 2": 2}  # an engine, and in how many processes
BATCH_SIZES = (64, 1024)
CPU = torch.device("cpu")
ROUNDS = 5  # in each the arms take turns forwards and backwards, so that a drift cancels
EPOCHS = 3  # in a turn
WARM_UP_STEPS = 10
UNTIMED_IMAGES = 4096
LIMIT_S = 300  # of a turn, which takes about ten


def test_scaling(benchmark, data):
    """Images per second of each arm, and its ratio to the base, round by round.

    The loss of every epoch is within `loss_tolerance` of that of the same batches trained in float64, and those of any
    two arms within twice that of each other.
    """
    cpus, most = machine.available_cpus(), max(ARMS.values())
    if cpus < most and not benchmark.disabled:
        pytest.skip(f"{most} processes need as many CPUs to scale, and this one may use {cpus}")
    images = UNTIMED_IMAGES if benchmark.disabled else len(data.train)
    work = {size: EpochWorkload(data, size, CPU) for size in BATCH_SIZES}
    steps = {size: min(epoch.most_steps, images // size) for size, epoch in work.items()}
    expected = {size: epoch.expected(steps[size]) for size, epoch in work.items()}
    asked = {
        "where": "digits" if data.name == "Digits" else str(data.root),
        "steps": list(steps.items()),
        "epochs": 1 if benchmark.disabled else EPOCHS,
    }
    turns = [*ARMS] if benchmark.disabled else [*ARMS, *reversed(ARMS)]
    rounds = []

    def run():
        start = datetime.now(timezone.utc).isoformat()
        seconds = {size: defaultdict(list) for size in BATCH_SIZES}
        for arm in turns:
            for size, epochs in zip(BATCH_SIZES, _turn(arm, asked), strict=True):
                for second, loss in epochs:
                    work[size].check(loss, expected[size], steps[size])
                    seconds[size][arm].append(second)
        medians = {size: {arm: median(of_arm) for arm, of_arm in arms.items()} for size, arms in seconds.items()}
        rounds.append({"start": start, "seconds": medians})

    benchmark.pedantic(run, rounds=ROUNDS)
    benchmark.extra_info |= {
        "device": "cpu",
        "threads": 1,
        "cpus": cpus,
        "data": data.name,
        "state": machine.current_state(),
        "batch_sizes": {
            size: _summary(steps[size] * size, [one["seconds"][size] for one in rounds]) for size in BATCH_SIZES
        },
        "rounds": rounds,
    }


def _summary(images, rounds):
    return {
        "images": images,
        "images_per_second": {arm: quartiles([images / seconds[arm] for seconds in rounds]) for arm in ARMS},
        "times_as_fast": {arm: quartiles([seconds[BASE] / seconds[arm] for seconds in rounds]) for arm in ARMS},
    }


def _turn(arm, asked):
    """Start the processes of an arm; return, for each batch size, the seconds and the loss of each epoch."""
    count = ARMS[arm]
    folder = Path(__file__).parents[__name__.count(".")]  # in which Python finds this very module
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    done = subprocess.run(
        [*torchrun, "-m", __name__, arm.split()[0], json.dumps(asked)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        timeout=LIMIT_S,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["processes"] == count, f"{arm}: {found['processes']} processes have trained"
    return found["epochs"]


def train(engine, asked):
    """Train as one of the processes of an arm; the first process writes the result."""
    torch.set_num_threads(1)
    data = load_data(asked["where"], download=False)
    found = []
    for size, steps in asked["steps"]:
        epoch = EpochWorkload(data, size, CPU, engine=engine)
        epoch.prepare(min(steps, WARM_UP_STEPS))()
        found.append([_timed(epoch.prepare(steps)) for _ in range(asked["epochs"])])
    if os.environ["RANK"] == "0":
        count = processes.get_world_size() if processes.is_initialized() else 1
        json.dump({"processes": count, "epochs": found}, sys.stdout)


def _timed(epoch):
    if processes.is_initialized():
        processes.barrier()  # so that no process waits for another in the timed part
    begun = time.perf_counter()
    loss = epoch()
    return time.perf_counter() - begun, loss


if __name__ == "__main__":
    train(sys.argv[1], json.loads(sys.argv[2]))
