"""Simulated rounds with known truth: what real blocks do to an interval, one scenario a function.

A scenario returns the logarithms of block times of two arms, each of shape (samples, generations, rounds, 2), in the
order A B B A within a round, for code that is identical unless the scenario says otherwise. NOISE is that of one block
beside its neighbours on a machine that is not quiet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mnist_loop.statistics.bootstrap import TRIM, bootstrap_trimmed_mean

Array = npt.NDArray[np.float64]
Blocks = tuple[Array, Array]
NOISE = 0.02
ROUNDS = 5
MODE = 0.02  # how far the two modes of a process are apart
THROTTLED = 0.10  # how much slower an arm is while it is throttled
POPULATION = 400_000  # generations that stand for infinitely many; the truth is then known to 0.01 %
RUN, PARTS = 20, 8  # generations in a series of them, as some scenarios have a drift over a series; and to save memory


@dataclass(frozen=True)
class Scenario:
    """A way in which block times come about.

    Attributes:
        title: for people.
        blocks: draws them.
    """

    title: str
    blocks: Callable[[np.random.Generator, tuple[int, int, int]], Blocks]


def medians(scenario: Scenario, samples: int, generations: int, seed: int) -> Array:
    """Draw the median log-ratio of each generation, shape (samples, generations)."""
    first, second = scenario.blocks(np.random.default_rng(seed), (samples, generations, ROUNDS))
    middle: Array = np.median(second.mean(axis=3) - first.mean(axis=3), axis=2)
    return middle


@lru_cache
def truth(scenario: Scenario, population: int = POPULATION) -> float:
    """Return what the estimate tends to with ever more generations of this scenario."""
    drawn = [medians(scenario, population // RUN // PARTS, RUN, seed).ravel() for seed in range(PARTS)]
    ordered = np.sort(np.concatenate(drawn))
    cut = round(TRIM * ordered.size)
    return float(ordered[cut : ordered.size - cut].mean())


def intervals(middle: Array, quantile: float) -> tuple[Array, Array]:
    """Return the ends of the interval of each sample, as `paired_ratio` makes it, in logarithms."""
    location, below, above = bootstrap_trimmed_mean(middle)
    return location - quantile * below, location + quantile * above


def _noise(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
    return draw.normal(0, NOISE, (*shape, 2)), draw.normal(0, NOISE, (*shape, 2))


def _of_processes(draw: np.random.Generator, shape: tuple[int, int, int], size: float = 0.01) -> Array:
    """Draw what one process differs by from another of the same code: one value a generation."""
    return draw.normal(0, size, (shape[0], shape[1], 1, 1))


def normal(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
    """Independent blocks, normal."""
    return _noise(draw, shape)


def restarts(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
    """Processes of the same code differ by 1 %."""
    first, second = _noise(draw, shape)
    return first + _of_processes(draw, shape), second + _of_processes(draw, shape)


def unequal_rounds(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
    """The noise of a generation differs by up to a factor of three, as if from 1 to 9 rounds made it up."""
    first, second = _noise(draw, shape)
    factor = draw.uniform(1, 3, (shape[0], shape[1], 1, 1))
    return first * factor + _of_processes(draw, shape), second * factor + _of_processes(draw, shape)


def heavy_tails(freedom: float) -> Callable[[np.random.Generator, tuple[int, int, int]], Blocks]:
    """Student's t, for blocks and for processes."""

    def blocks(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
        of_process = (shape[0], shape[1], 1, 1)
        first, second = (
            NOISE * draw.standard_t(freedom, (*shape, 2)) + 0.01 * draw.standard_t(freedom, of_process)
            for _ in range(2)
        )
        return first, second

    return blocks


def two_modes(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
    """Each process of either arm is fast or slow by chance."""
    first, second = _noise(draw, shape)
    slow = draw.random((2, shape[0], shape[1], 1, 1)) < 0.5
    return first + MODE * slow[0], second + MODE * slow[1]


def modes_of_blocks(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
    """Each block is fast or slow by chance, 30 % slow, in either arm."""
    first, second = (block + 2 * MODE * (draw.random(block.shape) < 0.3) for block in _noise(draw, shape))
    return first, second


def modes_of_one_arm(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
    """Each process of the second arm alone is fast or slow by chance, with hardly any other noise."""
    first, second = _noise(draw, shape)
    slow = draw.random((shape[0], shape[1], 1, 1)) < 0.5
    return 0.25 * first, 0.25 * second + MODE * slow


def autocorrelated(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
    """AR(1) with 0.8 from block to block: one that both arms share, and one of each arm's own."""
    common, own = _ar(draw, (*shape, 4), 0.8), [_ar(draw, (*shape, 2), 0.8) for _ in range(2)]
    return common[..., [0, 3]] + own[0], common[..., [1, 2]] + own[1]


def _ar(draw: np.random.Generator, shape: tuple[int, ...], factor: float) -> Array:
    """Draw an AR(1) series along all blocks of a generation, in the order of time, with deviation NOISE."""
    samples, generations, rounds, blocks = shape
    values = draw.normal(0, NOISE * np.sqrt(1 - factor**2), (samples, generations, rounds * blocks))
    values[..., 0] /= np.sqrt(1 - factor**2)
    for index in range(1, rounds * blocks):
        values[..., index] += factor * values[..., index - 1]
    return values.reshape(shape)


def linear_drift(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
    """All blocks become slower at a rate, by 50 % in all, which pairing cancels."""
    _, generations, rounds = shape
    drift = np.linspace(0, 0.5, generations * rounds * 4).reshape(1, generations, rounds, 4)
    first, second = restarts(draw, shape)
    return first + drift[..., [0, 3]], second + drift[..., [1, 2]]


def random_walk(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
    """All blocks share a random walk of 1 % a block, over all generations."""
    samples, generations, rounds = shape
    walk = np.cumsum(draw.normal(0, 0.01, (samples, generations * rounds * 4)), axis=1)
    walk = walk.reshape(samples, generations, rounds, 4)
    first, second = restarts(draw, shape)
    return first + walk[..., [0, 3]], second + walk[..., [1, 2]]


def throttled(share: float) -> Callable[[np.random.Generator, tuple[int, int, int]], Blocks]:
    """The second arm is slower from some round on in a share of the generations."""

    def blocks(draw: np.random.Generator, shape: tuple[int, int, int]) -> Blocks:
        samples, generations, rounds = shape
        first, second = restarts(draw, shape)
        since = draw.integers(rounds, size=(samples, generations, 1))
        hit = (draw.random((samples, generations, 1)) < share) & (np.arange(rounds) >= since)
        return first, second + THROTTLED * hit[..., None]

    return blocks


SCENARIOS = {
    "normal": Scenario("independent, normal", normal),
    "restarts": Scenario("processes differ by 1 %", restarts),
    "unequal": Scenario("generations of unequal noise", unequal_rounds),
    "t3": Scenario("heavy tails, t with 3 degrees of freedom", heavy_tails(3)),
    "t2": Scenario("heavy tails, t with 2 degrees of freedom", heavy_tails(2)),
    "modes": Scenario("two modes, 2 % apart, of either arm's processes", two_modes),
    "block modes": Scenario("two modes, 4 % apart, of the blocks", modes_of_blocks),
    "one arm's modes": Scenario(
        "two modes, 2 % apart, of one arm's processes, hardly any noise",
        modes_of_one_arm,
    ),
    "autocorrelated": Scenario("autocorrelated blocks, AR(1) with 0.8", autocorrelated),
    "linear drift": Scenario("linear drift of both arms, 50 %", linear_drift),
    "random walk": Scenario("random walk of both arms, 1 % a block", random_walk),
    "throttled 10 %": Scenario("one arm throttled from some time on in 10 % of the generations", throttled(0.1)),
    "throttled 20 %": Scenario("one arm throttled from some time on in 20 % of the generations", throttled(0.2)),
}
