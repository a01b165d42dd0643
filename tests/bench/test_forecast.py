"""The remaining time of a sweep: after the first tenth never more than twice too small or too large; a fake clock."""

import json
from itertools import accumulate
from pathlib import Path

import pytest

from mnist_loop.bench.clock import WARM_UP_S, rounds_for
from mnist_loop.bench.forecast import BESIDE_S, TIME_TO_ACCURACY, BenchmarkCell, Cost, Forecast, cost_of, stored_costs

PARTS = ("input pipeline", "step", "end to end", "evaluation")
ENGINES = ("compiled", "handwritten", "native", "reference", "resident")
BATCH_SIZES = (16, 64, 256, 1024, 4096)
TENTH = 0.1
CHECK_S = 0.1  # memory, float64, garbage collection, storing
BLOCKS_TO_CALIBRATE = 4
RECORDS = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*.json"))


class Machine:
    """A made-up machine: a training step takes ``dispatch_s`` and a time for each image, fetching an image another one.

    Args:
        pipeline: images per second of the input pipeline.
        step: images per second of a training step at large batches.
        dispatch_s: seconds of a step however small.
        compilation_s: seconds that each engine compiles at each batch size.
        load: each duration is so many times as long, by turns.
    """

    def __init__(self, pipeline=12e3, step=4e5, dispatch_s=4e-4, compilation_s=None, load=(1.0,)):
        self.image_s = {"pipeline": 1 / pipeline, "step": 1 / step}
        self.dispatch_s, self.compilation_s, self.load = dispatch_s, compilation_s or {}, load

    def cost(self, cell, number):
        """Return what a benchmark takes by the clock's own plan: calibration, rounds, checks."""
        load = self.load[number % len(self.load)]
        if cell.part == TIME_TO_ACCURACY:
            return Cost(4 * 938 * (self.dispatch_s + 64 * sum(self.image_s.values())) * load), 0.0
        image_s = self.image_s["step"]
        if cell.part in ("input pipeline", "end to end", "reference epoch"):
            image_s = self.image_s["pipeline"] + (cell.part != "input pipeline") * image_s
        dispatch_s = 0.0 if cell.part == "input pipeline" else self.dispatch_s
        step_s = (dispatch_s + cell.batch_size * image_s) * load
        block_s = max(0.05, step_s)
        beside_s = max(WARM_UP_S, BLOCKS_TO_CALIBRATE * block_s) + 2 * block_s + CHECK_S
        beside_s += self.compilation_s.get(cell.part, 0.0) * load
        return Cost(beside_s, step_s), rounds_for(block_s) * block_s


def plan(engines=()):
    """Return the cells in the order of a sweep."""
    parts = (*PARTS, *(f"{engine} epoch" for engine in engines))
    return [BenchmarkCell(part, "cpu", size) for size in BATCH_SIZES for part in parts]


def worst(cells, costs, in_rounds_s, stored=None):
    """Return the smallest and the largest ratio of the forecast to the truth, at each line after the first tenth."""
    took = [cost.beside_s + seconds for cost, seconds in zip(costs, in_rounds_s, strict=True)]
    forecast, ratios = Forecast(cells, stored), []
    for cost, elapsed in zip(costs[:-1], accumulate(took), strict=False):
        forecast.add(cost)
        if elapsed >= TENTH * sum(took):
            ratios.append(forecast.remaining_s() / (sum(took) - elapsed))
    return min(ratios), max(ratios)


def sweep_on(machine, cells, stored=None):
    """Return the worst ratios of a sweep on a made-up machine."""
    costs, in_rounds_s = zip(*(machine.cost(cell, number) for number, cell in enumerate(cells)), strict=True)
    return worst(cells, costs, in_rounds_s, stored)


COLD = {"compiled epoch": 25.0, "native epoch": 0.5}
WARM = {"compiled epoch": 3.0, "native epoch": 0.2}
MACHINES = {
    "two quiet cores": Machine(),
    "a fast workstation": Machine(pipeline=4e4, step=4e6, dispatch_s=5e-5),
    "a slow board": Machine(pipeline=1.5e3, step=3e4, dispatch_s=5e-3),
    "threads that wait for each other": Machine(pipeline=2e3, step=1e4, dispatch_s=0.1),
    "a load that comes and goes": Machine(load=(1.0, 1.0, 2.5, 1.0, 1.8)),
}
ENGINE_MACHINES = {
    "compiling for the first time": Machine(compilation_s=COLD),
    "compiling twice as slowly": Machine(compilation_s={"compiled epoch": 50.0, "native epoch": 2.0}),
    "nothing left to compile": Machine(compilation_s=WARM),
}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("last", [(), (BenchmarkCell(TIME_TO_ACCURACY, "cpu"),)])
def test_the_remaining_time_is_honest(name, last):
    """On any machine, from nothing but what was measured so far."""
    low, high = sweep_on(MACHINES[name], [*plan(), *last])
    assert 0.5 <= low <= high <= 2


@pytest.mark.parametrize("name", ENGINE_MACHINES)
def test_engines_that_compile_are_counted(name):
    """Before any of them has compiled here, and also where most of it comes from the compiler's cache."""
    low, high = sweep_on(ENGINE_MACHINES[name], plan(ENGINES))
    assert 0.5 <= low <= high <= 2


@pytest.mark.parametrize("now", ["compiling for the first time", "nothing left to compile"])
def test_a_stored_sweep_helps_and_does_not_mislead(now):
    """Whether the compiler finds what it made then or compiles anew, and although the machine is slower now."""
    cells = plan(ENGINES)
    before = ENGINE_MACHINES["compiling for the first time"]
    stored = {cell: before.cost(cell, number)[0] for number, cell in enumerate(cells)}
    machine = Machine(pipeline=8e3, step=2e5, compilation_s=ENGINE_MACHINES[now].compilation_s)
    low, high = sweep_on(machine, cells, stored)
    assert 0.5 <= low <= high <= 2


def recorded(file):
    """Return the cells of a stored sweep in their order, their costs, and the seconds of rounds of today's plan."""
    infos = [benchmark["extra_info"] for benchmark in json.loads(file.read_bytes())["benchmarks"]]
    cells = [BenchmarkCell(info["part"], info["device"], info["batch_size"]) for info in infos]
    costs = [cost_of(info) for info in infos]
    blocks_s = [max(0.05, cost.step_s) for cost in costs]
    return cells, costs, [rounds_for(block_s) * block_s for block_s in blocks_s]


@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.name.split("_")[0] + file.name.split("_")[2])
def test_the_remaining_time_is_honest_on_real_durations(file):
    """Those of the stored sweeps, from quiet and from loaded machines, with and without engines."""
    low, high = worst(*recorded(file))
    assert 0.5 <= low <= high <= 2
    cells, costs, _ = recorded(file)
    low, high = worst(*recorded(file), stored=dict(zip(cells, costs, strict=True)))
    assert 0.5 <= low <= high <= 2


def test_a_cost_is_put_together_from_what_is_stored():
    """Warm-up, rounds with what lies between them, and checks; the seconds of a run are taken as they are."""
    rounds = [{"start": f"2026-01-01T00:00:0{second}+00:00", "seconds": 0.5} for second in (0, 1, 2)]
    info = {"rounds": rounds, "steps": 10, "warm_up_s": 0.7}
    stored = cost_of(info)
    assert stored.step_s == pytest.approx(0.05)
    assert stored.beside_s == pytest.approx(0.7 + 1.0 + BESIDE_S - WARM_UP_S)
    assert cost_of(info, 9.0).beside_s == pytest.approx(7.5)
    assert cost_of({}, 3.0) == Cost(3.0)


def test_stored_costs_are_of_this_machine_and_torch(tmp_path):
    """The newest count; other machines, other torches and files that are no results are passed over."""
    file = RECORDS[0]
    document = json.loads(file.read_bytes())
    machine, torch = document["mnist_loop"]["identity"]["hash"], document["mnist_loop"]["software"]["torch"]
    (tmp_path / file.name).write_bytes(file.read_bytes())
    for name, content in (("x", "{"), ("y", '{"mnist_loop": 3}'), ("z", "[]")):
        (tmp_path / f"{name}_torch-{torch}_1.json").write_text(content)
    assert len(stored_costs(tmp_path, machine, torch)) == len(document["benchmarks"])
    assert stored_costs(tmp_path, "another", torch) == {}
    assert stored_costs(tmp_path, machine, "1.0") == {}
    assert stored_costs(tmp_path / "nowhere", machine, torch) == {}
