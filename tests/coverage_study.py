"""The study of coverage: `python -m tests.coverage_study [--simulations N] [--json FILE] [--write]`.

How often the interval of `mnist_loop.statistics.ratio.paired_ratio` holds the truth, and how often identical code is
called SLOWER or FASTER, in simulated series (tests/simulated_series.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import log1p, sqrt
from pathlib import Path

import numpy as np
from scipy import stats

from mnist_loop.statistics.judgement import FEWEST_GENERATIONS
from tests.simulated_series import POPULATION, ROUNDS, SCENARIOS, Array, intervals, medians, truth

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"
GENERATIONS = (FEWEST_GENERATIONS, 6, 10, 20, 40)
SIMULATIONS = 10_000
CONFIDENCE, LOOKS = 0.95, 8
LOWEST, HIGHEST = 0.93, 0.97
MARGIN = 0.01

TITLE = "# How often the interval holds the truth", "", "*Written by `python -m tests.coverage_study --write`.*", ""
INTRODUCTION = """\
Simulated comparisons, {simulations:,} for each cell, of generations (restarts) of {rounds} ABBA rounds each, with
blocks that vary by 2 %. The truth is what the estimate tends to with ever more generations. The error of each
coverage, from the number of simulations, is at most {error:.2f} percentage points."""
FALSE = """\
In per cent of all comparisons, by the 95 % interval without any looks: in one run at margin 0, in both of two runs at
margin 0, in both at a margin of 1 %. `mnist-loop compare` takes two runs.
"""
LIMITS = """
## What this interval cannot do

Where one arm alone has two modes that are equally frequent, 5 generations are all of one mode in 6.2 % of all cases,
6 in 3.1 %, and nothing in them tells of the other: no confidence helps. What is called has to be so in a second run.
An arm that is throttled in more than the 15 % of the generations that are left out at either end counts as slower, by
what is left of it.
"""


@dataclass(frozen=True)
class Cell:
    """What became of the simulations of one scenario with one number of generations, as shares of them.

    Attributes:
        scenario: its key.
        generations: in each simulation.
        simulations: how many.
        coverage: of the 95 % interval.
        coverage_at_a_look: of the interval at the confidence of one of eight looks, 99.4 %.
        red: called SLOWER or FASTER at margin 0 by the 95 % interval of one run.
        red_twice: by two runs, in the same direction.
        red_twice_beyond: by two runs, at a margin of 1 %.
    """

    scenario: str
    generations: int
    simulations: int
    coverage: float
    coverage_at_a_look: float
    red: float
    red_twice: float
    red_twice_beyond: float

    @property
    def error(self) -> float:
        """Standard error of the coverage, from the number of simulations."""
        return sqrt(self.coverage * (1 - self.coverage) / self.simulations)


def simulate(key: str, generations: int, simulations: int, seed: int = 1, population: int = POPULATION) -> Cell:
    """Simulate one cell; identical code is what has a true ratio of 1."""
    scenario = SCENARIOS[key]
    middle = medians(scenario, simulations, generations, 1_000_003 * seed + generations) - truth(scenario, population)
    at_once = intervals(middle, stats.t.isf((1 - CONFIDENCE) / 2, generations - 1))
    at_a_look = intervals(middle, stats.t.isf((1 - CONFIDENCE) / LOOKS / 2, generations - 1))
    return Cell(
        key,
        generations,
        simulations,
        float(np.mean(_sides(*at_once, 0.0) == 0)),
        float(np.mean(_sides(*at_a_look, 0.0) == 0)),
        float(np.mean(_sides(*at_once, 0.0) != 0)),
        _twice(_sides(*at_once, 0.0)),
        _twice(_sides(*at_once, log1p(MARGIN))),
    )


def _sides(low: Array, high: Array, margin: float) -> Array:
    """Return 1 where the interval lies above the margin, -1 below, 0 elsewhere."""
    sides: Array = (low > margin).astype(np.float64) - (high < -margin)
    return sides


def _twice(sides: Array) -> float:
    """Return the share in which two runs, simulation by simulation of either half, agree on a side."""
    half = sides.size // 2
    first, second = sides[:half], sides[half : 2 * half]
    return float(np.mean((first == second) & (first != 0)))


def page(cells: Sequence[Cell]) -> str:
    """Return the page: a table of coverage, one of false verdicts, and what is outside the bounds."""
    outside = [cell for cell in cells if not within(cell)]
    worst = max(cell.error for cell in cells)
    return "\n".join(
        [
            *TITLE,
            INTRODUCTION.format(simulations=cells[0].simulations, rounds=ROUNDS, error=100 * worst),
            "\n## Coverage of the 95 % interval\n",
            *_table(cells, lambda cell: f"{100 * cell.coverage:.1f}"),
            f"\n{_outside(outside)}",
            f"\n## Coverage at one of {LOOKS} looks\n",
            f"The confidence of one look of {LOOKS} is {100 * (1 - (1 - CONFIDENCE) / LOOKS):.2f} %.\n",
            *_table(cells, lambda cell: f"{100 * cell.coverage_at_a_look:.1f}"),
            "\n## False SLOWER or FASTER for identical code\n",
            FALSE,
            *_table(cells, _false_verdicts),
            LIMITS,
        ]
    )


def _false_verdicts(cell: Cell) -> str:
    return " / ".join(f"{100 * share:.1f}" for share in (cell.red, cell.red_twice, cell.red_twice_beyond))


def within(cell: Cell) -> bool:
    """Return whether the coverage is from 93 to 97 %."""
    return LOWEST <= cell.coverage <= HIGHEST


def _outside(cells: Sequence[Cell]) -> str:
    if not cells:
        return "All cells lie from 93 to 97 %."
    named = [
        f"{cell.scenario} at {cell.generations}: {100 * cell.coverage:.1f} (± {100 * cell.error:.1f})" for cell in cells
    ]
    return f"Outside 93 to 97 %: {'; '.join(named)}."


def _table(cells: Sequence[Cell], show: Callable[[Cell], str]) -> list[str]:
    counts = sorted({cell.generations for cell in cells})
    found = {(cell.scenario, cell.generations): cell for cell in cells}
    rows = [
        "| scenario | " + " | ".join(f"{count} generations" for count in counts) + " |",
        "|---|" + "---:|" * len(counts),
    ]
    for key in dict.fromkeys(cell.scenario for cell in cells):
        shown = " | ".join(show(found[key, count]) for count in counts)
        rows.append(f"| {SCENARIOS[key].title} | {shown} |")
    return rows


def main() -> int:
    """Run the study; 1 where a cell is outside the bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=SIMULATIONS, help="of each cell (%(default)s)")
    parser.add_argument("--json", type=Path, help="where the raw result goes")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} in docs")
    arguments = parser.parse_args()
    cells = []
    for key in SCENARIOS:
        cells += [simulate(key, count, arguments.simulations) for count in GENERATIONS]
        sys.stderr.write(f"{key}\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"cells": [asdict(cell) for cell in cells]}, indent=1) + "\n")
    if arguments.write:
        PAGE.write_text(page(cells))
    sys.stdout.write(page(cells))
    return int(not all(within(cell) for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
