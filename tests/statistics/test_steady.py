"""The end of the warm-up: found where there is one, and only there."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mnist_loop.statistics.steady import FEWEST_STEADY, steady_from

SERIES = 400
# Of 400 series with a chance of 5 % each, as many as are exceeded once in 10,000 studies.
MOST_CUT = int(stats.binom.isf(1e-4, SERIES, 0.05))
NOISES = {
    "normal": lambda draw, n: draw.normal(0, 0.02, n),
    "heavy tails": lambda draw, n: 0.02 * draw.standard_t(2, n),
    "two modes": lambda draw, n: draw.normal(0, 0.01, n) + 0.05 * (draw.random(n) < 0.3),
    "spikes": lambda draw, n: draw.normal(0, 0.01, n) + 2.0 * (draw.random(n) < 0.03),
    "whole clock ticks": lambda draw, n: np.log(draw.integers(20, 23, n) / 20),
}


def noise(n, size=0.01, seed=0):
    return np.random.default_rng(seed).normal(0, size, n)


@pytest.mark.parametrize("n", [12, 24, 96])
@pytest.mark.parametrize("name", NOISES)
def test_noise_alone_is_steady_from_the_start_in_95_of_100_series(name, n):
    draw = np.random.default_rng(n)
    found = [steady_from(np.exp(NOISES[name](draw, n))) for _ in range(SERIES)]
    assert sum(start != 0 for start in found) <= MOST_CUT


@pytest.mark.parametrize("length", [1, 2, 5, 20])
@pytest.mark.parametrize("step", [0.1, 1.0, -0.3])
def test_a_step_is_found(length, step):
    """Compilation, a cache that fills, a clock that rises; or one that falls: then the first blocks are fast."""
    if step < 0 and length < 5:
        return  # so few fast blocks are nothing that a warm-up does
    logs = noise(60)
    logs[:length] += step
    assert steady_from(np.exp(logs)) == length


def test_several_steps_are_all_cut():
    logs = noise(80)
    logs[:3] += 2.0
    logs[:15] += 0.2
    logs[:30] += 0.1
    assert steady_from(np.exp(logs)) == 30


def test_a_decay_is_cut_where_it_is_within_noise():
    decay, size = np.exp(-np.arange(100) / 8), 0.01
    starts = [steady_from(np.exp(decay + noise(100, size, seed))) for seed in range(40)]
    # At the median start it is below three standard deviations of a block, and was above a third of one just before.
    middle = int(np.median(starts))
    assert decay[middle] < 3 * size
    assert decay[middle - 1] > size / 3
    assert all(start is not None and decay[start] < 10 * size for start in starts)


def test_a_spike_later_on_is_no_change():
    logs = noise(60)
    logs[[10, 30, 31, 55]] += 3.0
    assert steady_from(np.exp(logs)) == 0


def test_what_keeps_changing_never_becomes_steady():
    assert steady_from(np.exp(noise(60) - 0.02 * np.arange(60))) is None


@given(st.lists(st.floats(1e-6, 1e3), max_size=FEWEST_STEADY - 1))
def test_a_short_series_shows_nothing(seconds):
    assert steady_from(seconds) is None


@given(st.lists(st.integers(1, 1000), min_size=FEWEST_STEADY, max_size=60), st.integers(-9, 9))
def test_the_unit_does_not_matter_and_enough_is_left(seconds, power):
    start = steady_from(seconds)
    assert start is None or 0 <= start <= len(seconds) - FEWEST_STEADY
    assert start == steady_from(seconds)
    logs_far_from_a_fence = len(set(seconds)) == 1 or max(seconds) < 2 * min(seconds)
    if logs_far_from_a_fence:
        assert start == steady_from([2.0**power * value for value in seconds])


@pytest.mark.parametrize("value", [1.0, 0.05])
def test_equal_times_are_steady(value):
    assert steady_from([value] * 20) == 0


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_time_is_refused(wrong):
    with pytest.raises(ValueError, match="not a positive number"):
        steady_from([1.0] * 20 + [wrong])
