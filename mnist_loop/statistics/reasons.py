"""The reason of each verdict in one sentence with figures.

"Slower by 3%" means 3% more time, "faster by 3%" means 3% more work in the same time. The margin has this meaning too.
"""

from __future__ import annotations

from mnist_loop.statistics.ratio import Ratio
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from mnist_loop.support.numbers import change, given_share, share


def too_few(restarts: int, fewest: int) -> str:
    """Say that the run was too short."""
    return f"too few restarts: {restarts} of at least {fewest}"


def too_noisy(control: Ratio) -> str:
    """Say that a copy of the first arm differed from it."""
    apart = max(control.estimate, 1 / control.estimate) - 1
    return f"identical code differed by {share(apart)} in this run: the machine was too noisy to tell"


def within_margin(ratio: Ratio, margin: float) -> str:
    """Say that the interval is within the margin."""
    return f"the interval, {_interval(ratio)}, is within the margin of {given_share(margin)}"


def between(ratio: Ratio, margin: float, detectable: float) -> str:
    """Say that the interval is neither within nor beyond the margin."""
    return (
        f"the interval, {_interval(ratio)}, is neither within nor beyond the margin of {given_share(margin)}; "
        f"this run could have seen {share(detectable)}"
    )


def to_be_confirmed(verdict: SpeedVerdict, first: Ratio, margin: float) -> str:
    """Say that the first run is SLOWER or FASTER, and the second is still to come."""
    by = f"{_by(verdict, first)} in the first run, beyond the margin of {given_share(margin)}"
    return f"{by}: to be confirmed by a second"


def not_confirmed(verdict: SpeedVerdict, first: Ratio, second: Ratio) -> str:
    """Say that the first run is SLOWER or FASTER, and the second does not agree."""
    return f"{_by(verdict, first)} in the first run, but {_interval(second)} in the second: not confirmed"


def not_agreed(first: Ratio, second: Ratio) -> str:
    """Say that the first run shows no difference, and the second does not agree."""
    return f"{_interval(first)} in the first run, but {_interval(second)} in the second: the runs do not agree"


def confirmed(verdict: SpeedVerdict, first: Ratio, second: Ratio, margin: float) -> str:
    """Say that both runs agree on SLOWER or FASTER; first the interval of the table, which is the one closer to 1."""
    closer, other = sorted((first, second), key=lambda ratio: _range(verdict, ratio)[0])
    low, high = _range(verdict, other)
    also = f"and by {share(low)} to {share(high)} in the other run"
    return f"{_by(verdict, closer)} {also}, beyond the margin of {given_share(margin)} in both runs"


def _by(verdict: SpeedVerdict, ratio: Ratio) -> str:
    low, high = _range(verdict, ratio)
    return f"{verdict.value.lower()} by {share(low)} to {share(high)}"


def _range(verdict: SpeedVerdict, ratio: Ratio) -> tuple[float, float]:
    if verdict is SpeedVerdict.SLOWER:
        return ratio.low - 1, ratio.high - 1
    return 1 / ratio.high - 1, 1 / ratio.low - 1


def _interval(ratio: Ratio) -> str:
    return f"{change(ratio.low)} to {change(ratio.high)} of time"
