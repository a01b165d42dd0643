"""The difference between runs that were stored one after the other, or the reason why none is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean, variance

from scipy.special import stdtrit

from mnist_loop.statistics.speed_verdict import SpeedVerdict
from mnist_loop.support.numbers import given_share

# With two runs a side, the interval has one or two degrees of freedom and is wider than any difference of interest.
FEWEST_RUNS = 3
# Identical worker processes differ by up to 3.2% on a busy machine: a smaller difference cannot be due to the code.
MARGIN = 0.032
ADVICE = "`mnist-loop compare` measures both in turns and can tell"  # on one machine


@dataclass(frozen=True)
class SweepDifference:
    """The difference of one contender from the first.

    Attributes:
        ratio: time of the contender / time of the first; above 1 it is slower.
        interval: of the ratio; None where it is not known.
        verdict: INCONCLUSIVE where no difference is known.
        reason: in one sentence.
    """

    ratio: float
    interval: tuple[float, float] | None
    verdict: SpeedVerdict
    reason: str


def compare_runs(
    base: Mapping[datetime, float], rates: Mapping[datetime, float], confidence: float, *, same_machine: bool
) -> SweepDifference:
    """Compare the runs of a contender with those of the first.

    Args:
        base: images per second of each run of the first, by its start.
        rates: those of the contender.
        confidence: of the interval.
        same_machine: whether the runs share one; a change of it between them would look like a difference.
    """
    ratio = math.exp(_mean_log(base) - _mean_log(rates))
    unknown = _unknown(base, rates, same_machine)
    if unknown is not None:
        return SweepDifference(ratio, None, SpeedVerdict.INCONCLUSIVE, unknown)
    interval = welch(base, rates, confidence)
    return SweepDifference(
        ratio, interval, *_outcome(interval, f"{_runs(base)} of the first and {_runs(rates)} of the other")
    )


def _unknown(base: Mapping[datetime, float], rates: Mapping[datetime, float], same_machine: bool) -> str | None:
    """Return why the runs give no interval; None if they do."""
    if min(len(base), len(rates)) < FEWEST_RUNS:
        return (
            f"no difference can be told from {_runs(base)} of the first and {_runs(rates)} of the other: separate runs "
            f"of identical code differ by up to 76% on a shared machine. At least {FEWEST_RUNS} of each are needed"
            + (f", in turns; {ADVICE}." if same_machine else ".")
        )
    if same_machine and (max(base) <= min(rates) or max(rates) <= min(base)):
        return (
            "no difference can be told: all runs of the one came before those of the other, and a change of the "
            f"machine between them would look the same. Run them in turns; {ADVICE}."
        )
    if len({*base.values()}) == 1 or len({*rates.values()}) == 1:
        return (
            "no difference can be told: the runs of one side agree to the last digit, which none that are measured do."
        )
    return None


def welch(base: Mapping[datetime, float], rates: Mapping[datetime, float], confidence: float) -> tuple[float, float]:
    """Return the interval of the ratio of times, by Welch's t-test on the logarithms of the runs' medians.

    Each run is one value: the rounds of a run share its process and time, and are not independent.
    """
    shares = [variance(map(math.log, side.values())) / len(side) for side in (base, rates)]
    error = math.sqrt(sum(shares))
    centre = _mean_log(base) - _mean_log(rates)
    weights = [share**2 / (len(side) - 1) for share, side in zip(shares, (base, rates), strict=True)]
    freedom = error**4 / sum(weights)
    reach = float(stdtrit(freedom, 1 - (1 - confidence) / 2)) * error
    return math.exp(min(centre - reach, 700.0)), math.exp(min(centre + reach, 700.0))  # exp(710) is no float


def _outcome(interval: tuple[float, float], told: str) -> tuple[SpeedVerdict, str]:
    low, high = interval
    if low > 1 + MARGIN:
        return SpeedVerdict.SLOWER, f"slower by more than {given_share(MARGIN)}, by {told}."
    if high < 1 / (1 + MARGIN):
        return SpeedVerdict.FASTER, f"faster by more than {given_share(MARGIN)}, by {told}."
    if low >= 1 / (1 + MARGIN) and high <= 1 + MARGIN:
        return SpeedVerdict.SAME, f"the same to within {given_share(MARGIN)}, by {told}."
    return SpeedVerdict.INCONCLUSIVE, f"no difference can be told from {told}: they differ too much among themselves."


def _mean_log(rates: Mapping[datetime, float]) -> float:
    return fmean(map(math.log, rates.values()))


def _runs(rates: Mapping[datetime, float]) -> str:
    count = len(rates)
    return f"{count} run" if count == 1 else f"{count} runs"
