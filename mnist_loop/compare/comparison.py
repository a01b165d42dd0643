"""One comparison: the arms are measured in alternating blocks until all verdicts are certain or the budget is spent."""

from __future__ import annotations

import math
import operator
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from mnist_loop.compare.arms import Arm
from mnist_loop.compare.crew import Crew
from mnist_loop.compare.journal import Journal
from mnist_loop.compare.plan import BLOCK_S, LOOKS, LOOKS_AT, Plan
from mnist_loop.compare.worker import lower_quartile
from mnist_loop.errors import UserError
from mnist_loop.statistics.judgement import CellDecision, judge_rounds
from mnist_loop.statistics.pairing import BLOCKS_A_ROUND, Block, rounds
from mnist_loop.statistics.steady import steady_from
from mnist_loop.support.limits import LARGEST_FILE, MIB, MOST_RESTARTS, MOST_WARM_UP_BLOCKS
from mnist_loop.support.wire import Peer

FIRST, CONFIRMING = 1, 2
CERTAIN, BUDGET, FULL = "certain", "budget", "full"
LAST_GENERATION = 8 * MIB  # of the file, kept for one more generation and the end
LEAD_IN = 2  # steps before the first block, which allocate gradients and buffers
# Steps of one training: in more of them rounding changes the sign of one ReLU's input or of several
# (mnist_loop.bench.workloads), which the tolerance of a long training allows for.
MOST_STEPS = 256
LONGEST_CALIBRATION_S = 0.5
CALIBRATIONS = 32  # steps; the lower quartile of their times sets the number of steps in a block
WARM_UP_BLOCKS = 40  # at a time: in fewer, a change-point cannot be told from noise
LONGEST_WARM_UP = 1 / 6  # of the budget, for all arms of a cell together
# In later restarts: a forked process warms up threads, caches and pages in about 50 ms (measured). Compilation and the
# rise of the CPU's clock belong to the first generation alone.
LATER_WARM_UP_BLOCKS = range(4, 13)
APART = 1.5  # where the steps' times differ by a larger factor, each arm's block has its own number of steps
FIRST_SHARE = 0.6  # of the budget; after it the second run begins, though some cells are undecided


class LossesDiffer(Exception):
    """Two arms do not compute the same, so that a ratio of their times means nothing."""


@dataclass
class Cell:
    """How one batch size is measured.

    Attributes:
        batch_size: of the sweep.
        own: the batch size of each arm, which may be its own.
        steps: in each arm's block.
        rounds: in a training, before it starts anew.
        trainings: in a generation.
        lead_in: steps of a training before its first block.
        expected: what each arm's training must compute.
        tolerance: by which share of that it may differ.
        warm_up: blocks in a generation before those that count.
    """

    batch_size: int
    own: list[int]
    steps: list[int]
    rounds: int
    lead_in: int
    tolerance: list[float]
    expected: list[float] = field(default_factory=list)
    trainings: int = 1
    warm_up: int = LATER_WARM_UP_BLOCKS[0]

    def most(self, index: int) -> int:
        """Return the steps of one training."""
        return self.lead_in + BLOCKS_A_ROUND * self.rounds * self.steps[index]


@dataclass
class Comparison:
    """One run of a comparison.

    Attributes:
        arms: what is compared; the last is the control.
        plan: how.
        crew: their processes.
        journal: where every block goes at once.
        tell: called with the seconds spent and the present verdicts.
        blocks: those measured.
        spent: seconds of the budget that they took.
        cells: how each batch size is measured.
        judged: the verdicts at the last look.
        served: the batch sizes that the present hosts have measured. Where arms have separate hosts, each batch size is
            measured once per host: its interval counts each restart as independent.
    """

    arms: Sequence[Arm]
    plan: Plan
    crew: Crew
    journal: Journal
    tell: Callable[[float, Sequence[CellDecision]], object]
    blocks: list[Block] = field(default_factory=list)
    spent: float = 0.0
    cells: dict[int, Cell] = field(default_factory=dict)
    judged: list[CellDecision] = field(default_factory=list)
    served: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.plan.seed} {len(self.blocks)}")  # noqa: S311  # an order, no secret
        self.zero = time.perf_counter() - max((block.start for block in self.blocks), default=0.0)
        self.number = restarts(self.blocks)
        self.since = time.perf_counter()

    def run(self) -> str:
        """Measure; return why it ended: "certain", "budget" or, where the file can hold no more, "full".

        Raises:
            LossesDiffer: the arms do not compute the same.
            UserError: an arm cannot do what it was asked for, or the disk is full.
            WorkerLost: a process is gone.
        """
        self._rule()
        for batch_size in self.plan.batch_sizes:
            self._agree(batch_size)
            self.since = time.perf_counter()
            self._warm_up(batch_size)
        why = self._measure()
        self._rule()
        return why

    def judge(self) -> list[CellDecision]:
        """Return the present verdict on each arm at each batch size."""
        found = rounds(self.blocks, len(self.arms))
        plan = self.plan
        self.judged = judge_rounds(found, len(self.arms), plan.batch_sizes, plan.margin, plan.confidence, LOOKS)
        return self.judged

    def _measure(self) -> str:
        run = max((block.run for block in self.blocks), default=FIRST)
        looked = self._due(run, self.plan.batch_sizes)
        turn = 0
        open_ = list(self.plan.batch_sizes)
        while True:
            batch_size = open_[turn % len(open_)]
            turn += 1
            before = self.spent
            self._generation(self.cells[batch_size], run)
            self._count()
            full = is_full(self.journal, self.number)
            over = full or self.spent + (self.spent - before) > self.plan.budget_s  # the next one would not fit
            due = self._due(run, open_)
            if over or due > looked:
                looked = due
                judged = self.judge()
                unconfirmed = {one.batch_size for one in judged if one.unconfirmed}
                undecided = {one.batch_size for one in judged if not one.certain} - unconfirmed
                if over or not (unconfirmed or undecided):
                    return CERTAIN if not (unconfirmed or undecided) else FULL if full else BUDGET
                if run == FIRST and unconfirmed and (not undecided or self.spent > FIRST_SHARE * self.plan.budget_s):
                    run, looked = CONFIRMING, 0
                open_ = [
                    size for size in self.plan.batch_sizes if size in (unconfirmed if run == CONFIRMING else undecided)
                ]
                if not open_:
                    return BUDGET
            self.tell(self.spent, self.judged)

    def _due(self, run: int, open_: Sequence[int]) -> int:
        """Return how many looks are due, by the fewest restarts of any batch size."""
        restarts = {size: {block.generation for block in self._of(run, size)} for size in open_}
        fewest = min(len(of_size) for of_size in restarts.values())
        return sum(fewest >= at for at in LOOKS_AT)

    def _of(self, run: int, batch_size: int) -> Iterator[Block]:
        return (block for block in self.blocks if (block.run, block.batch_size) == (run, batch_size))

    def _agree(self, batch_size: int) -> None:
        """Check that all arms compute the same, and count the steps of a block and the rounds of a training."""
        prepared = self.crew.generation(batch_size, range(len(self.arms)))
        workers = self.crew.workers
        answers = [worker.ask("losses") for worker in workers]
        own = [self.crew.settings(arm, batch_size)["batch_size"] for arm in self.arms]
        for index, answer in enumerate(answers):
            event = {"event": "losses", "arm": index, "batch_size": batch_size, "losses": answer["losses"]}
            self.journal.write(event)
            if own[index] == own[0]:
                check_losses(self.arms[0].label, answers[0], self.arms[index].label, answer)
        most = min(MOST_STEPS, *(one["most_steps"] for one in prepared))
        if most < BLOCKS_A_ROUND:
            raise UserError(f"batch size {batch_size}: an epoch has one batch, expected two or more to take turns with")
        at_once = max(one["at_once"] for one in prepared)
        lead_in = LEAD_IN if at_once == 1 else 1 + at_once  # an engine takes the first step by itself
        if at_once > 1 and most < lead_in + BLOCKS_A_ROUND * at_once:
            raise UserError(
                f"batch size {batch_size}: {most} steps are too few for an engine that makes {at_once} at once"
            )
        longest = (most - lead_in * (at_once > 1)) // (BLOCKS_A_ROUND * at_once)
        step_s = [_step_s(worker, most, at_once) for worker in workers]
        steps = [at_once * max(1, min(round(BLOCK_S / (at_once * one)), longest)) for one in step_s]
        if len(set(own)) == 1 and max(steps) <= APART * min(steps):
            steps = [min(steps)] * len(steps)
        wanted = math.ceil(
            self.plan.generation_s(self.crew.apart) / (BLOCKS_A_ROUND * sum(map(operator.mul, steps, step_s)))
        )
        rounds = min(max(1, (most - lead_in) // (BLOCKS_A_ROUND * max(steps))), wanted)
        lead_in = min(lead_in, most - BLOCKS_A_ROUND * rounds * max(steps))
        tolerance = [answer["tolerance_of_many"] for answer in answers]
        cell = Cell(batch_size, own, steps, rounds, lead_in, tolerance)
        kinds = [(own[index], cell.most(index)) for index in range(len(self.arms))]
        found = {kind: workers[kinds.index(kind)].ask("expected", steps=kind[1])["expected"] for kind in set(kinds)}
        cell.expected = [found[kind] for kind in kinds]
        self.cells[batch_size] = cell
        for index, one in enumerate(prepared):
            event = {"event": "prepared", "arm": index, "batch_size": batch_size, **one, "steps": steps[index]}
            self.journal.write(event)

    def _warm_up(self, batch_size: int) -> None:
        """Find the blocks that each arm of a new generation takes to be steady, and set the length of a generation."""
        cell = self.cells[batch_size]
        generation = self._next()
        prepared = self.crew.generation(batch_size, self._order())
        longest = LONGEST_WARM_UP * self.plan.budget_s / (len(self.arms) * len(self.plan.batch_sizes))
        blocks_s, warm = 0.0, []
        for index in self._order():
            seconds: list[float] = []
            steady = None
            while not seconds or (steady is None and sum(seconds) < longest and len(seconds) < MOST_WARM_UP_BLOCKS):
                seconds += self._unchecked(cell, index, WARM_UP_BLOCKS)
                steady = steady_from(seconds)
            warm.append(len(seconds) // 2 if steady is None else steady)
            blocks_s += median(seconds)
            first = prepared[index]["first_step_s"]
            self.journal.write(
                {
                    "event": "warm-up",
                    "arm": index,
                    "batch_size": batch_size,
                    "run": FIRST,
                    "generation": generation,
                    "first_step_s": first,
                    "seconds": first + sum(seconds[: warm[-1]]),
                    "steady": steady is not None,
                    "steady_from": warm[-1],
                    "blocks": [round(one, 9) for one in seconds],
                }
            )
        cell.warm_up = min(max(*warm, LATER_WARM_UP_BLOCKS[0]), LATER_WARM_UP_BLOCKS[-1])
        training_s = blocks_s * BLOCKS_A_ROUND * cell.rounds
        cell.trainings = max(1, round(self.plan.generation_s(self.crew.apart) / training_s))
        self._count()

    def _generation(self, cell: Cell, run: int) -> None:
        """Restart all workers, warm them up, and measure them in turn."""
        if self.crew.apart and cell.batch_size in self.served:
            self._pause(self.crew.restart)
            self.served.clear()
        self.served.add(cell.batch_size)
        generation = self._next()
        self.crew.generation(cell.batch_size, self._order())
        for index in self._order():
            self._unchecked(cell, index, cell.warm_up)
        for number in range(cell.trainings):
            self._training(cell, run, generation, number * cell.rounds)
        self.crew.dismiss()

    def _training(self, cell: Cell, run: int, generation: int, first_round: int) -> None:
        """Measure all arms in turn in one training from the same state; it counts if all computed the right result."""
        workers = self.crew.workers
        for index in self._order():
            self._begin(cell, index)
        blocks = []
        for number in range(cell.rounds):
            order = self._order()
            for index in (*order, *reversed(order)):
                start = self._now()
                seconds = workers[index].ask("go")["undisturbed"]
                images = cell.steps[index] * cell.own[index]
                where = (index, cell.batch_size, run, generation, first_round + number)
                blocks.append(Block(*where, round(start, 6), round(seconds, 9), images))
        for index, worker in enumerate(workers):
            found, expected = worker.ask("end")["found"], cell.expected[index]
            if not abs(found - expected) <= cell.tolerance[index] * abs(expected):
                raise LossesDiffer(
                    f"{self.arms[index].label}: a training computed {found!r}, but should have computed {expected!r} "
                    f"to within {cell.tolerance[index]:.1e} of it; what it measured does not count"
                )
        self.blocks += blocks
        for block in blocks:
            self.journal.write({"event": "block", **vars(block), "steps": cell.steps[block.arm]})

    def _unchecked(self, cell: Cell, index: int, blocks: int) -> list[float]:
        """Run blocks of one arm that do not count; return their seconds."""
        seconds: list[float] = []
        worker = self.crew.workers[index]
        while len(seconds) < blocks:
            self._begin(cell, index)
            turns = min(BLOCKS_A_ROUND * cell.rounds, blocks - len(seconds))
            seconds += [worker.ask("go")["seconds"] for _ in range(turns)]
            worker.ask("end")
        return seconds

    def _begin(self, cell: Cell, index: int) -> None:
        steps, most = cell.steps[index], cell.most(index)
        self.crew.workers[index].ask("begin", lead_in=cell.lead_in, steps=steps, most=most)

    def _rule(self) -> None:
        """Measure the ruler in a worker of each arm but the control, whose environment is the first arm's."""
        if not self.plan.ruler:
            return
        self.crew.generation(self.plan.batch_sizes[0], range(len(self.arms)))
        for index, worker in enumerate(self.crew.workers[:-1]):
            self.journal.write({"event": "ruler", "arm": index, "at": self._now(), **worker.ask("ruler")})
        self.crew.dismiss()

    def _order(self) -> list[int]:
        return self.random.sample(range(len(self.arms)), len(self.arms))

    def _next(self) -> int:
        self.number += 1
        return self.number - 1

    def _now(self) -> float:
        return time.perf_counter() - self.zero

    def _count(self) -> None:
        """Add the time since the last call to what is spent."""
        now = time.perf_counter()
        self.spent += now - self.since
        self.since = now
        self.journal.write({"event": "spent", "seconds": self.spent})

    def _pause(self, work: Callable[[], object]) -> None:
        """Do work that is not part of the budget."""
        began = time.perf_counter()
        work()
        self.since += time.perf_counter() - began


def check_losses(first: str, expected: dict[str, Any], label: str, found: dict[str, Any]) -> None:
    """Compare what two arms compute, step by step.

    Raises:
        LossesDiffer: they differ by more than the rounding of both.
    """
    tolerance = expected["tolerance"] + found["tolerance"]
    for step, (one, other) in enumerate(zip(expected["losses"], found["losses"], strict=False)):
        if not abs(one - other) <= tolerance * abs(one):
            raise LossesDiffer(
                f"{label} does not compute what {first} does: after {step + 1} steps the mean loss is {other!r} "
                f"against {one!r}, {abs(other - one) / abs(one):.1e} apart, and rounding explains {tolerance:.1e}; "
                "nothing was timed"
            )


def _step_s(worker: Peer, most: int, at_once: int) -> float:
    """Return the lower quartile of the seconds of a few steps."""
    lead_in = min(LEAD_IN, most - 1) if at_once == 1 else 1 + at_once
    calls = min((most - lead_in) // at_once, CALIBRATIONS)
    worker.ask("begin", lead_in=lead_in, steps=at_once, most=lead_in + calls * at_once)
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < calls and (not seconds or time.perf_counter() - began < LONGEST_CALIBRATION_S):
        seconds.append(float(worker.ask("go")["seconds"]) / at_once)
    worker.ask("end")
    return lower_quartile(seconds)


def restarts(blocks: Iterable[Block]) -> int:
    """Return how many restarts there were: the number of the next generation."""
    return max((block.generation for block in blocks), default=-1) + 1


def is_full(journal: Journal, restarts: int) -> bool:
    """Tell whether the file of a comparison has no room for one more generation."""
    return restarts >= MOST_RESTARTS or journal.size > LARGEST_FILE - LAST_GENERATION


def spent(events: Iterable[dict[str, Any]]) -> float:
    """Return the seconds of the budget that a stored comparison has spent."""
    return max((event["seconds"] for event in events if event["event"] == "spent"), default=0.0)
