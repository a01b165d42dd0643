"""The ratio of two times from paired blocks, with a confidence interval.

A generation's value is the median of its rounds; the estimate is a trimmed mean of the generations; its interval
comes from resampling the generations (`mnist_loop.statistics.bootstrap`). Coverage of 95% intervals in simulated
series with known truth, in percent, from the worst to the best of 13 scenarios: noise, heavy tails, two modes,
autocorrelation, drift, throttling. The first row is of 10,000 series a scenario (`python -m tests.coverage_study`,
docs/coverage.md), the others of 4,000 (`python -m tests.interval_candidates`).

| generations                      | 5         | 6         | 10        | 20        | 40        |
|----------------------------------|-----------|-----------|-----------|-----------|-----------|
| this interval                    | 93.1-95.3 | 96.2-96.8 | 96.1-96.8 | 95.5-96.6 | 95.0-96.1 |
| plain percentiles                | 87-92     | 90-92     | 92-93     | 94-95     | 93-95     |
| bootstrap standard error with t  | 93-98     | 91-98     | 90-97     | 94-98     | 95-97     |
| trimmed t (Tukey and McLaughlin) | 93-97     | 95-96     | 94-95     | 94-96     | 94-96     |
| Student's t about the mean       | 90-97     | 89-96     | 89-96     | 92-96     | 93-96     |

The trimmed t trims whole generations, none of 5 or 6, so that one disturbed generation dominates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from mnist_loop.statistics.bootstrap import bootstrap_trimmed_mean

# Of a logarithm: e^300 exceeds any ratio of times, and the ends of an interval around it are still finite and above 0.
MOST_LOG = 300.0


@dataclass(frozen=True)
class Ratio:
    """A ratio of times and its confidence interval.

    Attributes:
        estimate: time of one arm / time of the other; above 1 it is slower.
        low: lower end of the interval.
        high: upper end.
        confidence: of the interval, 0.95 for 95%.
        standard_error: of the logarithm of the estimate.
        generations: number of independent restarts.
        rounds: number of rounds in all of them.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    standard_error: float
    generations: int
    rounds: int


def paired_ratio(generations: Sequence[Sequence[float]], confidence: float = 0.95, seed: int = 0) -> Ratio:
    """Estimate the ratio of two times that were measured in pairs.

    Args:
        generations: for each restart of the processes, the log-ratios of its rounds; as many as there are.
        confidence: of the interval, above 0 and below 1.
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        ValueError: fewer than two generations, one without rounds, a value that no two times can have, or a
            confidence that is not between 0 and 1.
    """
    if len(generations) < 2:
        raise ValueError(f"{len(generations)} generation(s) found, expected at least 2: what varies cannot be told")
    if not all(len(rounds) for rounds in generations):
        raise ValueError("a generation without rounds found, expected at least one round in each")
    if not all(abs(value) <= MOST_LOG for rounds in generations for value in rounds):
        raise ValueError(f"a log-ratio found that is no number from -{MOST_LOG:g} to {MOST_LOG:g}: was a time zero?")
    medians = np.array([[float(np.median(rounds)) for rounds in generations]])
    location, below, above = (float(values[0]) for values in bootstrap_trimmed_mean(medians, seed))
    rounds = sum(len(rounds) for rounds in generations)
    estimate = Ratio(math.exp(location), 0.0, 0.0, confidence, (below + above) / 2, len(generations), rounds)
    return _with_interval(estimate, below, above, confidence)


def at(ratio: Ratio, confidence: float) -> Ratio:
    """Return the ratio with its interval at another confidence.

    Raises:
        ValueError: the confidence is not between 0 and 1.
    """
    return _with_interval(ratio, *_sides(ratio), confidence)


def _with_interval(ratio: Ratio, below: float, above: float, confidence: float) -> Ratio:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} found, expected a number above 0 and below 1")
    t = _quantile(confidence, ratio.generations)
    low, high = (ratio.estimate * math.exp(s) for s in (-min(t * below, MOST_LOG), min(t * above, MOST_LOG)))
    return replace(ratio, low=low, high=high, confidence=confidence)


def p_slower(ratio: Ratio, limit: float) -> float:
    """Return the p-value of "the ratio is at most ``limit``": small when the times are longer than that.

    The interval at confidence c lies above ``limit`` exactly when it is below (1 - c) / 2.
    """
    below, _ = _sides(ratio)
    return _p(math.log(ratio.estimate / limit), below, ratio.generations)


def p_faster(ratio: Ratio, limit: float) -> float:
    """Return the p-value of "the ratio is at least ``limit``": small when the times are shorter than that.

    The interval at confidence c lies below ``limit`` exactly when it is below (1 - c) / 2.
    """
    _, above = _sides(ratio)
    return _p(math.log(limit / ratio.estimate), above, ratio.generations)


def reach(ratio: Ratio, confidence: float, power: float = 0.8) -> float:
    """Return how far, in log-ratio, the truth must lie beyond a limit for the interval to do so, with ``power``."""
    t = _quantile(confidence, ratio.generations) + _quantile(2 * power - 1, ratio.generations)
    return t * ratio.standard_error


def _p(distance: float, error: float, generations: int) -> float:
    if error == 0:  # all generations are equal
        return 0.0 if distance > 0 else 1.0
    return float(special.stdtr(generations - 1, -distance / error))


def _sides(ratio: Ratio) -> tuple[float, float]:
    """Return the standard errors of the logarithm towards low and high."""
    t = _quantile(ratio.confidence, ratio.generations)
    return math.log(ratio.estimate / ratio.low) / t, math.log(ratio.high / ratio.estimate) / t


def _quantile(confidence: float, generations: int) -> float:
    # From the tail: close to 1, 1 - confidence keeps digits that (1 + confidence) / 2 loses.
    return -float(special.stdtrit(generations - 1, (1 - confidence) / 2))
