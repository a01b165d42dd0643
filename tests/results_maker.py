"""Made-up results for the tests: as stored (`sweep_document`, `comparison_lines`) and as read (`results`).

The numbers follow T(b) = t0 + b / r with a little noise from a fixed seed, so that plots look like real ones.
"""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

from mnist_loop.report.stored import (
    Accuracy,
    ArmResult,
    CellResult,
    ComparisonResult,
    Machine,
    Measurement,
    Pair,
    Refused,
    RulerResult,
    Setting,
    StoredResults,
    SweepResult,
    WorkloadId,
)
from mnist_loop.statistics.ratio import Ratio
from mnist_loop.statistics.speed_verdict import SpeedVerdict

BATCH_SIZES = (16, 64, 256, 1024)
PARTS = ("input pipeline", "step", "end to end", "evaluation")
# Seconds that a batch takes however small it is, and images per second of a large one.
LINES = {"input pipeline": (1e-5, 12e3), "step": (4e-4, 450e3), "evaluation": (1e-4, 1e6)}
RULER = {"gemm": 150e9, "copy": 12e9, "dispatch": 4e-6}
WHEN = "2026-11-23T08:44:15+00:00"
CPU = Machine("a-cpu-2cpu-1a2b3c", "1a2b3c4d5e6f", "A CPU", 2, 24, "Linux")
GPU = Machine("a-gpu-9f8e7d", "9f8e7d6c5b4a", "Another CPU", 16, 128, "Linux", ("A GPU",))


def generator(seed):
    """Noise that is the same at each call."""
    return random.Random(seed)  # noqa: S311  # no secret


def seconds(part, batch_size):
    """What a batch takes, without noise."""
    if part == "end to end":
        return seconds("input pipeline", batch_size) + seconds("step", batch_size)
    fixed, rate = LINES[part]
    return fixed + batch_size / rate


# As stored


def sweep_document(
    *,
    torch="2.15.0",
    data="Digits",
    device="cpu",
    threads=2,
    batch_sizes=BATCH_SIZES,
    parts=PARTS,
    machine=CPU,
    speed=1.0,
    noise=0.01,
    rounds=12,
    ruler=None,
    accuracy=False,
    when=WHEN,
    seed=0,
):
    """A stored sweep, as `mnist-loop bench` writes it.

    ``speed``: everything is so many times as fast. ``noise``: standard deviation of the logarithm of a round's time.
    ``ruler``: `RULER` where it is None.
    """
    draw = generator(seed)
    identity = {
        "cpu": machine.cpu,
        "architecture": "x86_64",
        "physical_cores": machine.logical_cores,
        "logical_cores": machine.logical_cores,
        "memory_gib": machine.memory_gib,
        "system": machine.system,
        "gpus": [{"name": name, "memory_mib": 81920, "compute_capability": "9.0"} for name in machine.gpus],
        "gpu_driver": "570.1" if machine.gpus else None,
        "hash": machine.hash,
    }
    software = {"mnist_loop": "0.1.0", "python": "3.12.1", "torch": torch, "numpy": "2.2.0", "blas": "mkl", "hip": None}
    benchmarks = [
        stored_benchmark(part, batch_size, device, threads, data, speed, noise, rounds, draw)
        for batch_size in batch_sizes
        for part in parts
    ]
    if accuracy:
        benchmarks.append(stored_accuracy(device, data, threads))
    facts = {
        "schema": 2,
        "identity": identity,
        "software": software,
        "state": {
            "time": when,
            "cpu": {"load_average": [0.1, 0.2, 0.3], "governor": None, "available_cpus": 2, "affinity": [0, 1]},
            "torch": {"threads": threads, "float32_matmul_precision": "highest"},
            "settings": {"OMP_NUM_THREADS": "1"},
            "gpus": [],
        },
        "devices": [device],
        "data": data,
        "threads": threads,
        "planned": [benchmark["name"] for benchmark in benchmarks],
        "complete": True,
        "dtype": "float32",
        "ruler": {device: dict(RULER if ruler is None else ruler)},
    }
    return {
        "machine_info": {"node": machine.name, **identity, "software": software},
        "commit_info": {"id": "unversioned", "dirty": True},
        "benchmarks": benchmarks,
        "datetime": when,
        "version": "5.3.1",
        "mnist_loop": facts,
    }


def stored_benchmark(part, batch_size, device, threads, data, speed, noise, rounds, draw):
    """One entry of ``benchmarks``."""
    name = f"test_{part.replace(' ', '_')}"
    steps = max(1, round(0.05 / (seconds(part, batch_size) / speed)))
    images = steps * batch_size
    took = [steps * seconds(part, batch_size) / speed * math.exp(draw.gauss(0.0, noise)) for _ in range(rounds)]
    rates = sorted(images / second for second in took)
    info = {
        "part": part,
        "batch_size": batch_size,
        "device": device,
        "threads": threads,
        "data": data,
        "steps": steps,
        "images": images,
        "images_per_second": {
            "median": middle(rates, 0.5),
            "q1": middle(rates, 0.25),
            "q3": middle(rates, 0.75),
        },
        "rounds": [{"start": WHEN, "seconds": second} for second in took],
        "first_step_s": 0.02,
        "warm_up_s": 0.55,
        "peak_memory_mib": 3.5,
        "peak_memory_how": "VmHWM",
        "state": {"time": WHEN, "cpu": {"load_average": [0.1, 0.2, 0.3]}},
    }
    return {
        "group": None,
        "name": f"{name}[{device}-{batch_size}]",
        "fullname": f"benchmarks/{name}.py::{name}[{device}-{batch_size}]",
        "params": {"device": device, "batch_size": batch_size},
        "extra_info": info,
        "stats": {"median": middle(sorted(took), 0.5) / images, "data": [second / images for second in took]},
    }


def stored_accuracy(device, data, threads):
    """The entry of time to accuracy."""
    info = {"part": "time to accuracy", "device": device, "data": data, "threads": threads, "batch_size": 64}
    info |= {"target": 0.92, "accuracy": 0.9211, "accuracies": [0.9, 0.9211], "epochs": 2}
    info |= {"training_s": 30.06, "evaluation_s": 4.0}
    return {"name": f"test_time_to_accuracy[{device}]", "params": {"device": device}, "extra_info": info, "stats": {}}


def middle(values, share):
    """The quantile of sorted values, with linear interpolation."""
    place = share * (len(values) - 1)
    below = min(int(place), len(values) - 2)
    return values[below] + (place - below) * (values[below + 1] - values[below])


def comparison_lines(
    *,
    slowdown=1.05,
    labels=("torch214", "torch215"),
    batch_sizes=(64,),
    data="Digits",
    part="step",
    margin=0.01,
    noise=0.01,
    rounds=20,
    generations=5,
    runs=2,
    end="certain",
    seed=0,
):
    """A stored comparison, one JSON object a line: every other arm takes ``slowdown`` times as long as the first.

    ``noise``: standard deviation of the logarithm of a block's time. ``rounds``: palindromic, in each generation;
    each arm has two blocks in one. ``runs``: 2 with the confirming run. ``end``: why it ended; None for a killed run.
    """
    draw = generator(seed)
    arms = [
        {
            "label": label,
            "software": {"torch": f"2.{14 + index}.0", "python": "3.12.1", "numpy": "2.2.0"},
            "settings": {"device": "cpu", "threads": "2", "dtype": "float32"},
            "control": False,
        }
        for index, label in enumerate(labels)
    ]
    arms.append({**arms[0], "label": f"{labels[0]} again", "control": True})
    machine = {"name": CPU.name, "cpu": CPU.cpu, "logical_cores": 2, "memory_gib": 24, "system": "Linux", "gpus": []}
    header = {
        "mnist_loop_comparison": 1,
        "version": "0.1.0",
        "started": WHEN,
        "machine": {**machine, "hash": CPU.hash},
        "state": {"cpu": {"load_average": [0.1, 0.2, 0.3]}},
        "plan": {
            "part": part,
            "batch_sizes": list(batch_sizes),
            "data": data,
            "model": "784-128-10",
            "margin": margin,
            "confidence": 0.95,
            "looks": 8,
            "budget_s": 60.0,
            "block_s": 0.05,
            "seed": 0,
        },
        "arms": arms,
    }
    lines = [header]
    now = 1.0
    for index in range(len(arms)):
        lines.append({"event": "ruler", "arm": index, "at": now, **RULER})
        for batch_size in batch_sizes:
            lines.append({"event": "losses", "arm": index, "batch_size": batch_size, "losses": [2.3, 2.2]})
    for run in range(1, runs + 1):
        for generation in range((run - 1) * generations, run * generations):
            for batch_size in batch_sizes:
                lines += [stored_warm_up(index, batch_size, run, generation) for index in range(len(arms))]
                for number in range(rounds):
                    order = [*range(len(arms))]
                    draw.shuffle(order)
                    for index in order + order[::-1]:
                        steps = max(1, round(0.05 / seconds(part, batch_size)))
                        factor = 1.0 if arms[index]["control"] or index == 0 else slowdown
                        took = steps * seconds(part, batch_size) * factor * math.exp(draw.gauss(0.0, noise))
                        block = {"event": "block", "arm": index, "batch_size": batch_size, "run": run}
                        block |= {"generation": generation, "round": number, "start": round(now, 6), "seconds": took}
                        lines.append(block | {"images": steps * batch_size, "steps": steps})
                        now += took
    if end is not None:
        lines.append({"event": "end", "why": end, "seconds": now})
    return lines


def stored_warm_up(arm, batch_size, run, generation):
    """The event that tells of one worker's warm-up."""
    event = {"event": "warm-up", "arm": arm, "batch_size": batch_size, "run": run, "generation": generation}
    return event | {"first_step_s": 0.02 + 0.01 * arm, "seconds": 0.5, "steady_from": 2, "blocks": [0.09, 0.06, 0.05]}


def write_lines(path, lines):
    """Store a comparison."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_sweep(path, **options):
    """Store a sweep."""
    path.write_text(json.dumps(sweep_document(**options)))
    return path


# As read


def measurement(part="step", batch_size=64, *, device="cpu", data="Digits", speed=1.0, noise=0.01, seed=0, **setting):
    """The throughput of one workload, of twelve rounds."""
    draw = generator(f"{seed} {part} {batch_size} {device}")
    rate = speed * batch_size / seconds(part, batch_size)
    rates = [rate * math.exp(draw.gauss(0.0, noise)) for _ in range(12)]
    ordered = sorted(rates)
    return Measurement(
        workload=WorkloadId(part, batch_size, data),
        setting=Setting(device, **{"threads": 2, **setting}),
        rates=tuple(rates),
        median=middle(ordered, 0.5),
        q1=middle(ordered, 0.25),
        q3=middle(ordered, 0.75),
        low=ordered[2],
        high=ordered[9],
        steps=10,
        first_step_s=0.02,
        warm_up_s=0.55,
        memory_mib=3.5,
    )


def sweep(
    file="first.json",
    *,
    torch="2.15.0",
    machine=CPU,
    device="cpu",
    data="Digits",
    speed=1.0,
    noise=0.01,
    batch_sizes=BATCH_SIZES,
    ruler=True,
    when=WHEN,
    seed=0,
    accuracies=(),
):
    """A sweep as the reader makes it."""
    return SweepResult(
        file=Path(file),
        when=when,
        machine=machine,
        software={"torch": torch, "python": "3.12.1", "numpy": "2.2.0", "blas": "mkl"},
        measurements=tuple(
            measurement(part, batch_size, device=device, data=data, speed=speed, noise=noise, seed=f"{file} {seed}")
            for batch_size in batch_sizes
            for part in PARTS
        ),
        ruler={device: RulerResult(**RULER)} if ruler else {},
        accuracies=accuracies,
        planned=len(batch_sizes) * len(PARTS),
        facts={"threads": "2", "data": data, "load average": "0.1"},
    )


def cell(
    batch_size=64,
    *,
    arm=1,
    estimate=1.05,
    verdict=SpeedVerdict.SLOWER,
    half_width=0.01,
    margin=0.01,
    data="Digits",
    seed=0,
):
    """One arm beside the first, with its series and that of the control."""
    draw = generator(f"{seed} {arm} {batch_size}")
    base = batch_size / seconds("step", batch_size)
    pairs, control = (
        tuple(Pair(0.2 * place, place // 10, math.log(middle_) + draw.gauss(0.0, 0.01)) for place in range(50))
        for middle_ in (estimate, 1.0)
    )
    return CellResult(
        workload=WorkloadId("step", batch_size, data),
        arm=arm,
        ratio=Ratio(estimate, estimate - half_width, estimate + half_width, 0.95, half_width / 1.96, 5, 50),
        verdict=verdict,
        reason=f"{estimate:.3f} times the time of the first arm, and the margin is {margin:.0%}",
        detectable=1.5 * half_width,
        pairs=pairs,
        control=Ratio(1.0005, 0.996, 1.005, 0.95, 0.0025, 5, 50),
        control_pairs=control,
        base_rate=base,
        rate=base / estimate,
    )


def comparison(file="compare.jsonl", *, labels=("torch214", "torch215"), cells=None, margin=0.01, ended="certain"):
    """A comparison as the reader makes it: one cell of each verdict, at four batch sizes, where none are given."""
    settings = {"device": "cpu", "threads": "2", "dtype": "float32"}
    arms = tuple(
        ArmResult(
            label,
            {"torch": f"2.{14 + index}.0", "python": "3.12.1"},
            settings,
            ruler=RulerResult(**RULER),
            first_step_s=dict.fromkeys(BATCH_SIZES, 0.02 + 0.01 * index),
            warm_up_s=dict.fromkeys(BATCH_SIZES, 0.15),
        )
        for index, label in enumerate(labels)
    )
    return ComparisonResult(
        file=Path(file),
        when=WHEN,
        machine=CPU,
        arms=(*arms, replace(arms[0], label=f"{labels[0]} again", control=True, first_step_s={}, warm_up_s={})),
        cells=cells
        or (
            cell(16, estimate=1.05, verdict=SpeedVerdict.SLOWER),
            cell(64, estimate=0.93, verdict=SpeedVerdict.FASTER),
            cell(256, estimate=1.001, verdict=SpeedVerdict.SAME, half_width=0.004),
            cell(1024, estimate=1.01, verdict=SpeedVerdict.INCONCLUSIVE, half_width=0.03),
        ),
        margin=margin,
        ended=ended,
        seconds=60.0,
        facts={"budget": "60 s", "load average": "0.1"},
    )


def results():
    """Two torch versions on one machine, a GPU, two comparisons (one with three arms), a refused file."""
    arms = ("torch24", "torch29", "torch215")
    three = tuple(
        cell(batch_size, arm=arm, estimate=estimate, verdict=verdict)
        for batch_size in BATCH_SIZES
        for arm, estimate, verdict in ((1, 1.04, SpeedVerdict.SLOWER), (2, 0.9, SpeedVerdict.FASTER))
    )
    lesson = (Accuracy("cpu", 0.9211, 4, 30.06, 4.0),)
    return StoredResults(
        sweeps=(
            sweep("old.json", torch="2.4.1", speed=0.9, accuracies=lesson),
            sweep("new.json", torch="2.15.0"),
            sweep("gpu.json", torch="2.15.0", machine=GPU, device="cuda", speed=8.0),
        ),
        comparisons=(comparison(), comparison("three.jsonl", labels=arms, cells=three)),
        refused=(Refused(Path("foreign.json"), "JSON of another kind: expected a result that mnist-loop stored"),),
    )
