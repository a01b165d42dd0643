"""How long the rest of a sweep takes, from the rounds of each benchmark, the length of its blocks, and its preparation.

A benchmark costs its rounds and what comes beside them: warm-up, compilation, preparation of each round, checks. Both
follow from what the series (one part or engine on one device) cost so far, at another batch size or in a stored sweep
of this machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Any

from mnist_loop.bench.clock import BLOCK_S, WARM_UP_S, rounds_for

TIME_TO_ACCURACY = "time to accuracy"
STEPS_TO_ACCURACY = 5 * 938  # the lesson gets there in four or five epochs
LESSON_BATCH_SIZE = 64
PIPELINE, END_TO_END = "input pipeline", "end to end"
BY_THE_IMAGE = (PIPELINE, END_TO_END, "reference epoch")  # the parts that fetch one image at a time
IMAGE_S = 1 / 10_000  # of the lesson's input pipeline on a CPU: 8 to 14 thousand images a second
BESIDE_S = WARM_UP_S + 0.3  # checks, garbage collection, storing
BLOCKS_BESIDE = 5  # warm-up, memory and check run blocks too
# Of a batch size, on two CPU cores. On a CPU the lesson's model is trained by C, after a trial.
COMPILATION_S = {("cpu", "compiled epoch"): 2.0, ("cpu", "native epoch"): 1.0}
COMPILATION_ELSEWHERE_S = {"compiled epoch": 25.0}


@dataclass(frozen=True)
class BenchmarkCell:
    """A benchmark of a sweep: one part, or the epoch of an engine, at one batch size on one device."""

    part: str
    device: str = ""
    batch_size: int | None = None

    @property
    def series(self) -> tuple[str, str]:
        """Cells that differ in the batch size alone."""
        return self.device, self.part


@dataclass(frozen=True)
class Cost:
    """What a benchmark took.

    Attributes:
        beside_s: all seconds but those of its rounds.
        step_s: of one step of its rounds; None of a benchmark without steps.
    """

    beside_s: float
    step_s: float | None = None


Costs = Mapping[BenchmarkCell, Cost]


class Forecast:
    """The remaining time of a sweep.

    Args:
        cells: the benchmarks in the order in which they run.
        stored: costs of an earlier sweep on this machine.
    """

    def __init__(self, cells: Sequence[BenchmarkCell], stored: Costs | None = None) -> None:
        self.waiting = list(cells)
        self.stored = stored or {}
        self.found: dict[BenchmarkCell, Cost] = {}

    def add(self, cost: Cost) -> None:
        """Note what the first of the waiting benchmarks took."""
        self.found[self.waiting.pop(0)] = cost

    def remaining_s(self) -> float:
        """Return the seconds that the waiting benchmarks will take."""
        return sum(map(self.estimate, self.waiting))

    def estimate(self, cell: BenchmarkCell) -> float:
        """Return the seconds that a benchmark will take."""
        if cell.part == TIME_TO_ACCURACY:
            return STEPS_TO_ACCURACY * self._step_s(
                BenchmarkCell(END_TO_END, cell.device, LESSON_BATCH_SIZE), LESSON_BATCH_SIZE
            )
        if cell.batch_size is None:
            known = [cost.beside_s for other, cost in self.found.items() if other.batch_size is None]
            return mean(known or [BESIDE_S])
        block_s = max(BLOCK_S, self._step_s(cell, cell.batch_size))
        return rounds_for(block_s) * block_s + self._beside_s(cell, block_s)

    def _step_s(self, cell: BenchmarkCell, batch_size: int) -> float:
        for costs in (self.found, self.stored):
            same = {one: cost for one, cost in costs.items() if one.series == cell.series}
            known = [(one.batch_size or 1, _step(cost)) for one, cost in same.items()]
            if known and costs is self.found and cell in self.stored:
                last = next(one for one in reversed(costs) if one.series == cell.series)
                if last in self.stored:  # the machine is so many times as fast as in the stored sweep
                    return _step(self.stored[cell]) * _step(costs[last]) / _step(self.stored[last])
            if cell in costs:
                return _step(costs[cell])
            if known:
                return self._extrapolated(cell, known[-2:])
        return batch_size * (self._image_s(cell.device) or IMAGE_S) if cell.part in BY_THE_IMAGE else 0.0

    def _beside_s(self, cell: BenchmarkCell, block_s: float) -> float:
        series = [other for other in self.found if other.series == cell.series]
        if cell in self.stored:
            both = [other for other in series if other in self.stored]
            stored_s = sum(self.stored[other].beside_s for other in both)
            # Compilation takes less than in the stored sweep where the compiler has kept what it made.
            faster = sum(self.found[other].beside_s for other in both) / stored_s if both else 1.0
            return faster * self.stored[cell].beside_s
        preparation_s = max((self.found[other].beside_s for other in series), default=0.0)
        if not series:
            elsewhere_s = COMPILATION_ELSEWHERE_S.get(cell.part, 0.0)
            preparation_s = BESIDE_S + COMPILATION_S.get((cell.device, cell.part), elsewhere_s)
        return preparation_s + BLOCKS_BESIDE * (block_s - BLOCK_S)

    def _extrapolated(self, cell: BenchmarkCell, known: Sequence[tuple[int, float]]) -> float:
        """Return the seconds of a step, from those at the last batch size or two; they grow at most in proportion."""
        assert cell.batch_size is not None, "it has steps"
        *before, (last, step_s) = known
        proportional_s = step_s * cell.batch_size / last
        if cell.part in BY_THE_IMAGE:
            image_s = self._image_s(cell.device)
        elif before:
            ((first, first_s),) = before
            image_s = (step_s - first_s) / (last - first)
        else:
            image_s = 0.0  # where images wait in memory
        grown_s = proportional_s if image_s is None else step_s + image_s * (cell.batch_size - last)
        return sorted((step_s, grown_s, proportional_s))[1]

    def _image_s(self, device: str) -> float | None:
        """Return the seconds of one image in the input pipeline; None where they are not known."""
        for costs in (self.found, self.stored):
            known = [one for one in costs if (one.device, one.part) == (device, PIPELINE) and one.batch_size]
            if known:
                return _step(costs[known[-1]]) / (known[-1].batch_size or 1)
        return None


def _step(cost: Cost) -> float:
    return cost.step_s or BLOCK_S


def cost_of(info: Mapping[str, Any], seconds: float | None = None) -> Cost:
    """Return the cost of a benchmark, from its ``extra_info``.

    ``seconds`` is what it took in all; of a stored one it is put together from its warm-up and its rounds.
    """
    rounds = info.get("rounds")
    if not rounds or "steps" not in info:
        return Cost(seconds or 0.0)
    in_rounds_s = sum(one["seconds"] for one in rounds)
    if seconds is None:
        first, last = (datetime.fromisoformat(rounds[place]["start"]) for place in (0, -1))
        beside_rounds_s = (last - first).total_seconds() + rounds[-1]["seconds"] - in_rounds_s
        seconds = info["warm_up_s"] + in_rounds_s + beside_rounds_s + BESIDE_S - WARM_UP_S
    return Cost(max(0.0, seconds - in_rounds_s), in_rounds_s / len(rounds) / info["steps"])


def stored_costs(folder: Path, machine: str, torch: str) -> dict[BenchmarkCell, Cost]:
    """Return the costs in the sweeps in ``folder`` of the machine with this hash and this torch, the newest ones."""
    costs: dict[BenchmarkCell, Cost] = {}
    for path in sorted(folder.glob(f"*_torch-{torch}_*.json"), key=lambda path: path.stat().st_mtime):
        try:
            document = json.loads(path.read_bytes())
            section = document["mnist_loop"]
            if section["identity"]["hash"] == machine and section["software"]["torch"] == torch:
                costs |= dict(_costs(document["benchmarks"]))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
            continue  # anything may lie in the folder; without it the forecast is only less exact
    return costs


def _costs(benchmarks: Iterable[Any]) -> Iterable[tuple[BenchmarkCell, Cost]]:
    for benchmark in benchmarks:
        info = benchmark["extra_info"]
        if "steps" in info:
            yield BenchmarkCell(info["part"], info["device"], info["batch_size"]), cost_of(info)
