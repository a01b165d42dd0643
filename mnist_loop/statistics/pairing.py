"""The blocks of a comparison and the rounds that they form."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

BLOCKS_A_ROUND = 2  # of each arm: a round is in the order A B B A, so that a linear drift cancels


@dataclass(frozen=True)
class Block:
    """One timed block of one arm.

    Attributes:
        arm: index of the arm.
        batch_size: of the cell.
        run: 1, or 2 for the confirming run.
        generation: number of the restart, unique in a comparison.
        round: number of the round in its generation.
        start: seconds since the comparison began.
        seconds: its duration.
        images: their number in it.
    """

    arm: int
    batch_size: int
    run: int
    generation: int
    round: int
    start: float
    seconds: float
    images: int


@dataclass(frozen=True)
class Round:
    """One complete round: the mean logarithm of the seconds per image in each arm."""

    batch_size: int
    run: int
    generation: int
    start: float
    log_seconds: tuple[float, ...]

    def log_ratio(self, arm: int) -> float:
        """Return log(time of the arm / time of the first arm)."""
        return self.log_seconds[arm] - self.log_seconds[0]


def rounds(blocks: Iterable[Block], arms: int) -> list[Round]:
    """Pair ``blocks`` of ``arms`` arms into complete rounds, in the order of time; incomplete ones are left out."""
    of_round: dict[tuple[int, int, int, int], list[Block]] = defaultdict(list)
    for block in blocks:
        of_round[block.run, block.generation, block.batch_size, block.round].append(block)
    found = []
    for (run, generation, batch_size, _), members in of_round.items():
        logs: dict[int, list[float]] = defaultdict(list)
        for block in members:
            logs[block.arm].append(math.log(block.seconds / block.images))
        if sorted(logs) == list(range(arms)) and all(len(of_arm) == BLOCKS_A_ROUND for of_arm in logs.values()):
            means = tuple(sum(logs[arm]) / BLOCKS_A_ROUND for arm in range(arms))
            found.append(Round(batch_size, run, generation, min(block.start for block in members), means))
    return sorted(found, key=lambda one: one.start)


def generations(found: Iterable[Round], arm: int, batch_size: int, run: int) -> list[list[float]]:
    """Return the log ratios of ``arm`` to the first arm, a list for each generation of ``run``."""
    mine = sorted((one for one in found if (one.batch_size, one.run) == (batch_size, run)), key=_generation)
    return [[one.log_ratio(arm) for one in members] for _, members in groupby(mine, key=_generation)]


def _generation(one: Round) -> int:
    return one.generation
