"""The plan of a comparison: what is measured, how finely, and for how long."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.statistics.judgement import FEWEST_GENERATIONS
from mnist_loop.support.limits import (
    LARGEST_MARGIN,
    LONGEST_BUDGET_S,
    MOST_ARMS,
    MOST_BATCH_SIZES,
    MOST_RESTARTS,
    SHORTEST_BUDGET_S,
    SMALLEST_MARGIN,
)
from mnist_loop.support.numbers import seconds
from mnist_loop.support.options import MOST, MOST_AT_ONCE
from mnist_loop.support.shown import shown

# Shorter than the disturbances of a shared machine, so that they affect both arms alike. On one, the ratio of identical
# code scattered within a second by 3.1% with blocks of 58 ms, 1.9% with 29 ms, 1.0% with 7 ms and 0.7%
# with 4 ms; and by 0.5% with 4 ms and the lower quartile of the steps' times in place of their mean.
BLOCK_S = 0.005
# The numbers of restarts of a run at which the verdicts are looked at; one more look is at the end of the budget. Each
# look costs some of the confidence, so the run is about 1.6 times as long at each as at the one before.
LOOKS_AT = (5, 8, 13, 21, 34, 55, 89)
LOOKS = 2 * (len(LOOKS_AT) + 1)  # in the first run and in the second, which confirms it
# Restarts that a budget is divided into: enough to know by how much restarts differ. The shortest generation is set by
# the 0.3 s of a fork, or by the several seconds of new processes that import torch; the longest by drift.
GENERATIONS, SHORTEST_GENERATION_S = 50, 0.2
GENERATIONS_APART, SHORTEST_GENERATION_APART_S = 10, 0.5
LONGEST_GENERATION_S = 3.0
PLANNED_RESTARTS = MOST_RESTARTS // 2  # at most: generations are longer where a budget has room for more
GENERATIONS_A_CELL = 10  # of a sweep, at least: half of them for the second run


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long.

    Attributes:
        part: of the lesson: "step", "evaluation", "input pipeline" or "end to end".
        batch_sizes: of the sweep, one or more.
        data: where the images come from, as for `mnist_loop.data.load_data`.
        device: "auto", or what `mnist_loop.support.device.resolve_device` takes; where an arm sets none.
        threads: CPU threads, where an arm sets none.
        dtype: of the model and the images, where an arm sets none.
        margin: the share below which a difference does not matter: 0.01 for 1%.
        confidence: with which all verdicts of the run hold together.
        budget_s: seconds of measuring, at most.
        seed: of the order of the blocks.
        ruler: whether what the machine itself can do is measured before and after.
    """

    part: str = "step"
    batch_sizes: tuple[int, ...] = (64,)
    data: str | None = None
    device: str = "auto"
    threads: int = 1
    dtype: str = "float32"
    margin: float = 0.01
    confidence: float = 0.95
    budget_s: float = 60.0
    seed: int = 0
    ruler: bool = True

    def generation_s(self, apart: bool) -> float:
        """Return the seconds that the workers of a generation work before they are restarted.

        Args:
            apart: whether a restart is one of all processes, and no fork.
        """
        most, shortest = (
            (GENERATIONS_APART, SHORTEST_GENERATION_APART_S) if apart else (GENERATIONS, SHORTEST_GENERATION_S)
        )
        most = max(most, GENERATIONS_A_CELL * len(self.batch_sizes))
        longest = max(LONGEST_GENERATION_S, self.budget_s / PLANNED_RESTARTS)
        return min(max(self.budget_s / most, shortest), longest)

    def too_short(self, apart: bool) -> str:
        """Return a sentence where the budget has no room for the restarts that a verdict takes, else "".

        Args:
            apart: as for `generation_s`.
        """
        room = round(self.budget_s / self.generation_s(apart))
        needed = 2 * FEWEST_GENERATIONS * len(self.batch_sizes)
        if room >= needed:
            return ""
        return (
            f"a budget of {seconds(self.budget_s)} has room for at most {room} restarts, expected {needed}: "
            f"{FEWEST_GENERATIONS} for each of two runs at each batch size; without them there may be no verdict: "
            "give a longer --budget"
        )

    def check(self, arms: int) -> None:
        """Refuse what the file of a comparison cannot hold.

        Args:
            arms: number of arms, the control among them.

        Raises:
            UserError: it is more than `mnist_loop.support.limits` allows.
        """
        if not SMALLEST_MARGIN < self.margin < LARGEST_MARGIN:
            raise UserError(
                f"a margin of {100 * self.margin:g}% found, expected one above {SMALLEST_MARGIN:.0%} and below "
                f"{LARGEST_MARGIN:.0%}: name another with --margin"
            )
        if not SHORTEST_BUDGET_S <= self.budget_s <= LONGEST_BUDGET_S:
            raise UserError(
                f"a budget of {self.budget_s:g} s found, expected {SHORTEST_BUDGET_S:g} to {LONGEST_BUDGET_S:g} s: "
                "name another with --budget"
            )
        for what, found, most in (
            ("arms", arms - 1, MOST_ARMS - 1),
            ("batch sizes", len(self.batch_sizes), MOST_BATCH_SIZES),
        ):
            if found > most:
                raise UserError(f"{found} {what} found, expected at most {most}: compare some of them at a time")

    def as_stored(self) -> dict[str, Any]:
        """Return the plan for the first line of a comparison's file."""
        return {**asdict(self), "block_s": BLOCK_S, "looks": LOOKS, "model": "784-128-10"}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Plan:
        """Read a plan back.

        Raises:
            KeyError: a value is missing.
            ValueError: one is of another kind.
        """
        values = {field.name: stored[field.name] for field in fields(cls)}
        for name, value in values.items():
            if not FITS[name](value):
                raise ValueError(f"{name} {shown(value)} in its plan")
        return cls(**{**values, "batch_sizes": tuple(values["batch_sizes"])})


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST


# What a stored plan may have.
FITS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("part", "device", "dtype"), lambda value: isinstance(value, str)),
    "batch_sizes": lambda value: isinstance(value, list | tuple) and bool(value) and all(map(_is_count, value)),
    "data": lambda value: value is None or isinstance(value, str),
    "threads": lambda value: _is_count(value) and value <= MOST_AT_ONCE,
    "margin": _is_number,
    "confidence": lambda value: _is_number(value) and 0 < value < 1,
    "budget_s": _is_number,
    "seed": lambda value: type(value) is int,
    "ruler": lambda value: isinstance(value, bool),
}
