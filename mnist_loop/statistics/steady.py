"""The end of the warm-up: the change-point after which a series of block times is steady.

The test uses ranks, which are robust to spikes. It is repeated on the part after each change-point until none is
found. The critical value of the largest step comes from random permutations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

# The probability of a false change-point in one series. The rest of 5% is for spikes in the first blocks.
LEVEL = 0.01
# In so few blocks even a perfect step in the middle is found by chance more often than LEVEL: 2 of the 252 orders of 5
# low and 5 high ranks are 0.8%, 2 of 126 of 4 and 5 are 1.6%.
FEWEST_STEADY = 10
ORDERS = 4_000  # permutations: 40 exceed the critical value, so that it is known to a sixth of LEVEL
# A first block this many interquartile ranges above the upper quartile of the others is warm-up, though one rank is
# never significant. This is Tukey's outer fence: 1 in a million of a normal distribution lies beyond it, and 1.5% of
# Student's with two degrees of freedom.
FENCE = 3.0


def steady_from(seconds: Sequence[float]) -> int | None:
    """Return the index of the first block of the steady state; 0 where there was no warm-up.

    Args:
        seconds: of equal blocks, in the order of time.

    Returns:
        None where fewer than ten blocks follow the last change, so that nothing shows that it was the last.

    Raises:
        ValueError: a time that is not a positive number.
    """
    if not all(math.isfinite(value) and value > 0 for value in seconds):
        raise ValueError("a block time that is not a positive number found")
    logs = np.log(np.asarray(seconds, dtype=np.float64))
    start = 0
    while len(logs) - start >= FEWEST_STEADY:
        slow = _slow_start(logs[start:])
        change = slow or _change(logs[start:])
        if not change:
            return start
        start += change
    return None


def _slow_start(logs: npt.NDArray[np.float64]) -> int:
    """Return the number of blocks at the start that are outliers among the following ones."""
    count = 0
    while len(logs) - count > FEWEST_STEADY:
        low, high = np.quantile(logs[count + 1 :], [0.25, 0.75])
        if logs[count] <= high + FENCE * (high - low):
            break
        count += 1
    return count


def _change(logs: npt.NDArray[np.float64]) -> int:
    """Return the index at which the level changes; 0 where there is no significant change."""
    _, place, counts = np.unique(logs, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts + 1) / 2)[place]  # equal times share the mean of their ranks
    sizes = _steps(ranks[None, :])[0]
    largest = int(np.argmax(sizes))
    return largest + 1 if sizes[largest] > _critical(len(logs)) else 0


@lru_cache(maxsize=64)
def _critical(n: int) -> float:
    """Return the critical value of the largest step of n blocks, exceeded with probability LEVEL by chance."""
    orders = np.random.default_rng(n).permuted(np.tile(np.arange(n, dtype=np.float64), (ORDERS, 1)), axis=1)
    return float(np.quantile(_steps(orders).max(axis=1), 1 - LEVEL, method="higher"))


def _steps(ranks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return, for each cut, the difference of the mean ranks before and after it, in standard deviations."""
    n = ranks.shape[1]
    before = np.arange(1, n)
    sums = np.cumsum(ranks - (n - 1) / 2, axis=1)[:, :-1]
    steps: npt.NDArray[np.float64] = np.abs(sums) / np.sqrt(before * (n - before) * (n + 1) / 12)
    return steps
