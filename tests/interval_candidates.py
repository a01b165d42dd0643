"""Other intervals on the same simulated series: `python -m tests.interval_candidates`.

Why `mnist_loop.statistics.bootstrap` is as it is: the range of the coverage of each candidate's 95 % interval over all
scenarios, each held to what its own estimate tends to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from scipy import stats

from mnist_loop.statistics.bootstrap import TRIM, _resampled_weights, _weights
from tests.coverage_study import GENERATIONS
from tests.simulated_series import SCENARIOS, Array, intervals, medians

SIMULATIONS = 4_000
POPULATION_SERIES, RUN = 10_000, 20
TAIL = 0.975
Interval = tuple[Array, Array]


def student(middle: Array) -> Interval:
    """Return Student's interval about the mean."""
    half = stats.t.ppf(TAIL, middle.shape[1] - 1) * stats.sem(middle, axis=1)
    return middle.mean(axis=1) - half, middle.mean(axis=1) + half


def tukey_mclaughlin(middle: Array) -> Interval:
    """Return the trimmed t interval: standard error from the winsorised values, whole values trimmed."""
    n = middle.shape[1]
    cut = int(TRIM * n)
    ordered = np.sort(middle, axis=1)
    kept = ordered[:, cut : n - cut]
    winsorised = np.clip(ordered, kept[:, :1], kept[:, -1:])
    error = winsorised.std(axis=1, ddof=1) / ((1 - 2 * cut / n) * np.sqrt(n))
    half = stats.t.ppf(TAIL, n - 2 * cut - 1) * error
    return kept.mean(axis=1) - half, kept.mean(axis=1) + half


def bootstrap_error(middle: Array) -> Interval:
    """Return location and standard deviation of the resamples, times sqrt(n / (n - 1)), with the quantile of t."""
    n, resampled = middle.shape[1], _resampled(middle)
    half = stats.t.ppf(TAIL, n - 1) * resampled.std(axis=1) * np.sqrt(n / (n - 1))
    location = np.sort(middle, axis=1) @ _weights(np.arange(n + 1.0), n)
    return location - half, location + half


def percentile(middle: Array) -> Interval:
    """Return the plain percentiles of the resamples."""
    low, high = np.quantile(_resampled(middle), [1 - TAIL, TAIL], axis=1)
    return low, high


def ours(middle: Array) -> Interval:
    """Return the interval of `paired_ratio`."""
    return intervals(middle, stats.t.ppf(TAIL, middle.shape[1] - 1))


def _resampled(middle: Array) -> Array:
    found: Array = np.sort(middle, axis=1) @ _resampled_weights(middle.shape[1], 0)
    return found


CANDIDATES: dict[str, tuple[Callable[[Array], Interval], float]] = {
    "this one": (ours, TRIM),
    "plain percentiles": (percentile, TRIM),
    "bootstrap standard error with t": (bootstrap_error, TRIM),
    "trimmed t (Tukey and McLaughlin)": (tukey_mclaughlin, TRIM),
    "Student's t about the mean": (student, 0.0),
}


def main() -> int:
    """Print a row for each candidate."""
    found: dict[tuple[str, int], list[float]] = {}
    for scenario in SCENARIOS.values():
        population = np.sort(medians(scenario, POPULATION_SERIES, RUN, 0).ravel())
        for count in GENERATIONS:
            middle = medians(scenario, SIMULATIONS, count, 7 + count)
            for name, (interval, trim) in CANDIDATES.items():
                low, high = interval(middle)
                true = stats.trim_mean(population, trim)
                found.setdefault((name, count), []).append(100 * float(np.mean((low <= true) & (true <= high))))
    for name in CANDIDATES:
        ranges = [f"{min(found[name, count]):.0f}-{max(found[name, count]):.0f}" for count in GENERATIONS]
        sys.stdout.write(f"| {name} | {' | '.join(ranges)} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
