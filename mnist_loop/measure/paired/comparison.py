"""A comparison at work: the arms take turns, block by block, until the verdict is certain or the budget is spent."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnist_loop.measure.paired.arms import Arm
from mnist_loop.measure.paired.crew import Crew
from mnist_loop.measure.paired.journal import Journal
from mnist_loop.measure.paired.plan import Plan
from mnist_loop.measure.paired.processes import Peer
from mnist_loop.statistics.judgement import Judged, judge
from mnist_loop.statistics.pairing import Block, rounds
from mnist_loop.statistics.steady import steady_from

FIRST, CONFIRMING = 1, 2
CERTAIN, BUDGET = "certain", "budget"
WARM_UP_BLOCK_S = 0.025
WARM_UP_BLOCKS = 12  # fewer tell no change-point from noise
LONGEST_WARM_UP = 1 / 6  # of the budget, for all arms of a cell together
LATER_WARM_UP_BLOCKS = 2  # at least, in the restarts that follow: threads, caches and pages of a new process
ROUNDS = range(2, 9)  # in a generation: so many that starting it takes less time than they do
APART = 1.5  # arms whose steps differ by more have blocks of their own numbers of steps
CALIBRATIONS = 4  # a disturbance lasts longer than one block, and rarely as long as five
FIRST_SHARE = 0.6  # of the budget after which a red is confirmed rather than the rest measured


class LossesDiffer(Exception):
    """Two arms do not compute the same: to time them against each other would mean nothing."""


@dataclass
class Cell:
    """What is known of one batch size: the number of steps in each arm's block, and how long it takes to start."""

    batch_size: int
    steps: list[int]
    images: list[int]
    found: list[float]
    tolerance: list[float]
    warm_up_blocks: list[int]
    rounds: int = ROUNDS[0]


@dataclass
class Comparison:
    """A run.

    Attributes:
        arms: what is compared; the last is the control.
        plan: how.
        crew: their processes.
        journal: where every block goes at once.
        tell: told how far it has come: seconds spent, and what is judged so far.
        blocks: those measured.
        spent: seconds of the budget that they took.
    """

    arms: Sequence[Arm]
    plan: Plan
    crew: Crew
    journal: Journal
    tell: Callable[[float, Sequence[Judged]], object]
    blocks: list[Block] = field(default_factory=list)
    spent: float = 0.0
    cells: dict[int, Cell] = field(default_factory=dict)
    judged: list[Judged] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.plan.seed} {len(self.blocks)}")  # noqa: S311  # an order, no secret
        self.zero = time.perf_counter() - max((block.start for block in self.blocks), default=0.0)
        self.number = max((block.generation for block in self.blocks), default=-1) + 1
        self.since = time.perf_counter()

    def run(self) -> str:
        """Measure; return why it ended: "certain" or "budget".

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

    def judge(self) -> list[Judged]:
        """Say what can be said by now, of each arm at each batch size."""
        found = rounds(self.blocks, len(self.arms))
        plan = self.plan
        self.judged = judge(found, len(self.arms), plan.batch_sizes, plan.margin, plan.confidence, len(plan.looks))
        return self.judged

    def _measure(self) -> str:
        looks = [look for look in self.plan.looks if look > self.spent]
        run = max((block.run for block in self.blocks), default=FIRST)
        turn = 0
        open_ = list(self.plan.batch_sizes)
        while True:
            batch_size = open_[turn % len(open_)]
            turn += 1
            before = self.spent
            self._generation(self.cells[batch_size], run)
            self._count()
            over = self.spent + (self.spent - before) > self.plan.budget_s  # the next one would not fit
            if over or self.spent >= looks[0]:
                looks = [look for look in looks if look > self.spent]
                judged = self.judge()
                red = {one.batch_size for one in judged if one.unconfirmed}
                undecided = {one.batch_size for one in judged if not one.certain} - red
                if over:
                    return BUDGET if red | undecided else CERTAIN
                if not red and not undecided:
                    return CERTAIN
                if run == FIRST and red and (not undecided or self.spent > FIRST_SHARE * self.plan.budget_s):
                    run = CONFIRMING
                    if self.crew.apart:
                        self._pause(self.crew.restart)
                open_ = [size for size in self.plan.batch_sizes if size in (red if run == CONFIRMING else undecided)]
                if not open_:
                    return CERTAIN if not undecided else BUDGET
            self.tell(self.spent, self.judged)

    def _agree(self, batch_size: int) -> None:
        """Check that all arms compute the same, and count the steps of a block."""
        prepared = self.crew.generation(batch_size, range(len(self.arms)))
        answers = [worker.ask("losses") for worker in self.crew.workers]
        for index, (arm, answer) in enumerate(zip(self.arms, answers, strict=True)):
            self.journal.write({"event": "losses", "arm": index, "batch_size": batch_size, "losses": answer["losses"]})
            if "batch_size" not in arm.settings and "batch_size" not in self.arms[0].settings:
                check_losses(self.arms[0].label, answers[0], arm.label, answer)
        own = [self.crew.settings(arm, batch_size)["batch_size"] for arm in self.arms]
        steps = [
            _steps(worker, self.plan.block_s, one["most_steps"])
            for worker, one in zip(self.crew.workers, prepared, strict=True)
        ]
        if len(set(own)) == 1 and max(steps) <= APART * min(steps):
            steps = [min(steps)] * len(steps)
        expected = [worker.ask("expected", steps=count) for worker, count in zip(self.crew.workers, steps, strict=True)]
        self.cells[batch_size] = Cell(
            batch_size,
            steps,
            [count * size for count, size in zip(steps, own, strict=True)],
            [one["expected"] for one in expected],
            [one["tolerance"] for one in answers],
            [LATER_WARM_UP_BLOCKS] * len(steps),
        )
        for index, one in enumerate(prepared):
            self.journal.write(
                {"event": "prepared", "arm": index, "batch_size": batch_size, **one, "steps": steps[index]}
            )

    def _warm_up(self, batch_size: int) -> None:
        """Find out after how many blocks each arm of a new generation is steady."""
        cell = self.cells[batch_size]
        generation = self._next()
        prepared = self.crew.generation(batch_size, self._order())
        longest = LONGEST_WARM_UP * self.plan.budget_s / (len(self.arms) * len(self.plan.batch_sizes))
        for index in self._order():
            steps = max(1, round(cell.steps[index] * WARM_UP_BLOCK_S / self.plan.block_s))
            seconds: list[float] = []
            steady = None
            while len(seconds) < WARM_UP_BLOCKS or (steady is None and sum(seconds) < longest):
                for _ in range(WARM_UP_BLOCKS):
                    seconds.append(self.crew.workers[index].ask("block", steps=steps)["seconds"])
                steady = steady_from(seconds)
            blocks = len(seconds) // 2 if steady is None else steady
            warm = blocks * WARM_UP_BLOCK_S / self.plan.block_s
            cell.warm_up_blocks[index] = max(LATER_WARM_UP_BLOCKS, math.ceil(warm))
            first = prepared[index]["first_step_s"]
            self.journal.write(
                {
                    "event": "warm-up",
                    "arm": index,
                    "batch_size": batch_size,
                    "run": FIRST,
                    "generation": generation,
                    "first_step_s": first,
                    "seconds": first + sum(seconds[:blocks]),
                    "steady_from": steady,
                    "blocks": seconds,
                }
            )
        self._count()

    def _generation(self, cell: Cell, run: int) -> None:
        """Restart all workers, warm them up, and let them take turns for some rounds."""
        began = time.perf_counter()
        generation = self._next()
        self.crew.generation(cell.batch_size, self._order())
        for index in self._order():
            for _ in range(cell.warm_up_blocks[index]):
                self._block(cell, index)
        started = time.perf_counter()
        for number in range(cell.rounds):
            order = self._order()
            for index in (*order, *reversed(order)):
                self._timed(cell, index, run, generation, number)
        one_round = (time.perf_counter() - started) / cell.rounds
        cell.rounds = min(max(math.ceil((started - began) / one_round), ROUNDS[0]), ROUNDS[-1])
        self.crew.dismiss()

    def _timed(self, cell: Cell, index: int, run: int, generation: int, number: int) -> None:
        start = self._now()
        seconds = self._block(cell, index)
        block = Block(index, cell.batch_size, run, generation, number, start, seconds, cell.images[index])
        self.blocks.append(block)
        self.journal.write({"event": "block", **vars(block), "steps": cell.steps[index]})

    def _block(self, cell: Cell, index: int) -> float:
        """Let one arm work for a block; its time counts only if it computed what it had to."""
        reply = self.crew.workers[index].ask("block", steps=cell.steps[index])
        expected, tolerance = cell.found[index], cell.tolerance[index]
        if not abs(reply["found"] - expected) <= tolerance * abs(expected):
            raise LossesDiffer(
                f"{self.arms[index].label}: a block computed {reply['found']!r}, but should have computed "
                f"{expected!r} to within {tolerance:.1e} of it; nothing it measured counts"
            )
        return float(reply["seconds"])

    def _rule(self) -> None:
        """Measure the ruler in a worker of each arm but the control, which would say the same again."""
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
        """Count the time since the last call as spent."""
        now = time.perf_counter()
        self.spent += now - self.since
        self.since = now
        self.journal.write({"event": "spent", "seconds": self.spent})

    def _pause(self, work: Callable[[], object]) -> None:
        """Do what is not measuring: the budget does not pay for it."""
        began = time.perf_counter()
        work()
        self.since += time.perf_counter() - began


def check_losses(first: str, expected: dict[str, Any], label: str, found: dict[str, Any]) -> None:
    """Compare what two arms compute, step by step.

    Raises:
        LossesDiffer: they part by more than the roundings of both explain.
    """
    tolerance = expected["tolerance"] + found["tolerance"]
    for step, (one, other) in enumerate(zip(expected["losses"], found["losses"], strict=False)):
        if not abs(one - other) <= tolerance * abs(one):
            raise LossesDiffer(
                f"{label} does not compute what {first} does: after {step + 1} steps the mean loss is {other!r} "
                f"against {one!r}, {abs(other - one) / abs(one):.1e} apart, and rounding explains {tolerance:.1e}; "
                "nothing was timed"
            )


def _steps(worker: Peer, block_s: float, most: int) -> int:
    """Count the steps of a block that takes ``block_s`` seconds, by the fastest of some that are about as long."""
    steps, seconds = 1, float(worker.ask("block", steps=1)["seconds"])
    while seconds < block_s / 2 and steps < most:
        steps = min(max(1, math.floor(steps * min(block_s / seconds, 10))), most)
        seconds = worker.ask("block", steps=steps)["seconds"]
    fastest = min(seconds, *(float(worker.ask("block", steps=steps)["seconds"]) for _ in range(CALIBRATIONS)))
    return max(1, min(round(steps * block_s / fastest), most))


def spent(events: Iterable[dict[str, Any]]) -> float:
    """Return the seconds of the budget that a stored comparison has spent."""
    return max((event["seconds"] for event in events if event["event"] == "spent"), default=0.0)
