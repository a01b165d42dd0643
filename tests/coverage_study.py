"""The study of coverage: `python -m tests.coverage_study [--simulations N] [--json FILE] [--write]`.

How often the interval of `mnist_loop.statistics.ratio.paired_ratio` contains the true ratio, and how often identical
code gets the verdict SLOWER or FASTER, in simulated series (tests/simulated_series.py).
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

TITLE = (
    "# How often the interval contains the true ratio",
    "",
    "*Written by `python -m tests.coverage_study --write`.*",
    "",
)
INTRODUCTION = """\
`mnist-loop compare` gives an interval for the ratio of two times. Here comparisons with a known ratio are simulated,
{simulations:,} for each cell. A comparison has a number of generations (restarts) with {rounds} ABBA rounds each, and
blocks that vary by 2 %. The true ratio is the limit of the estimate for many generations. The standard error of each
coverage, from the number of simulations, is at most {error:.2f} percentage points."""
FALSE = """\
In per cent of all comparisons, with the 95 % interval and a single look. The three numbers are: in one run at margin 0;
in both of two runs at margin 0; in both of two runs at a margin of 1 %. `mnist-loop compare` requires two runs.
"""
LIMITS = """
## What this interval cannot do

If one arm has two equally frequent modes, all of 5 generations have the same mode in 6.2 % of all cases, and all of 6
in 3.1 %. Such data do not show the other mode, at any confidence; this is why a second run has to agree. The interval
leaves out the lowest and the highest 15 % of the generations. An arm that is throttled in more of them counts as
slower.
"""


@dataclass(frozen=True)
class Cell:
    """The results of one scenario with one number of generations, as shares of the simulations.

    Attributes:
        scenario: its key.
        generations: in each simulation.
        simulations: how many.
        coverage: of the 95 % interval.
        coverage_at_a_look: of the interval at the confidence of one of eight looks, 99.4 %.
        red: SLOWER or FASTER at margin 0, by the 95 % interval of one run.
        red_twice: the same in two runs.
        red_twice_beyond: the same in two runs, at a margin of 1 %.
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
    confidence = 100 * (1 - (1 - CONFIDENCE) / LOOKS)
    return "\n".join(
        [
            *TITLE,
            INTRODUCTION.format(simulations=cells[0].simulations, rounds=ROUNDS, error=100 * worst),
            "\n## Coverage of the 95 % interval\n",
            *_table(cells, lambda cell: f"{100 * cell.coverage:.1f}"),
            f"\n{_outside(outside)}",
            f"\n## Coverage at one of {LOOKS} looks\n",
            f"A comparison that looks at its data {LOOKS} times uses a confidence of {confidence:.2f} %.\n",
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
        return "All cells are between 93 and 97 %."
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
