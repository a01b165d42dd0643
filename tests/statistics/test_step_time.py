"""The line T(b) = t0 + b / r: found where it is, with intervals that hold it, and honest where it is not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mnist_loop.statistics.step_time import StepTimeFit, fit_step_time

SIZES = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
DISPATCH_S, RATE = 2e-4, 4e5
LINE = StepTimeFit(DISPATCH_S, RATE, (1.9e-4, 2.1e-4), (3.9e5, 4.1e5), 0.01)
STUDIES = 400


def times(sizes, noise=0.0, draw=None, dispatch_s=DISPATCH_S, rate=RATE):
    true = np.array([dispatch_s + size / rate for size in sizes])
    return (true * np.exp(draw.normal(0, noise, len(sizes)) if draw else 0.0)).tolist()


@given(
    st.floats(1e-6, 1e-1),
    st.floats(1e2, 1e9),
    st.lists(st.integers(1, 10_000), min_size=3, max_size=9, unique=True),
)
def test_exact_times_give_their_line(dispatch_s, rate, sizes):
    """As far as both parts of the time are there: what makes up a thousandth of the times is not asked for."""
    shares = [dispatch_s / (dispatch_s + size / rate) for size in sizes]
    line = fit_step_time(sizes, times(sizes, dispatch_s=dispatch_s, rate=rate), [0.001] * len(sizes))
    if max(shares) - min(shares) < 0.05:
        return
    assert line.dispatch_s == pytest.approx(dispatch_s, rel=1e-3)
    assert line.rate == pytest.approx(rate, rel=1e-3)
    assert line.misfit < 1e-3
    assert line.half_batch == pytest.approx(dispatch_s * rate, rel=2e-3)
    assert [line.seconds(size) for size in sizes] == pytest.approx(times(sizes, 0, None, dispatch_s, rate), rel=1e-3)


@pytest.mark.parametrize("known", [0.02, 0.005])
@pytest.mark.parametrize("sizes", [SIZES, SIZES[::2], SIZES[::4]])
def test_the_intervals_hold_the_truth(sizes, known):
    """Whether the errors are known, or four times as large as was known: then the scatter tells, if there is enough."""
    draw, held = np.random.default_rng(0), np.zeros(2)
    for _ in range(STUDIES):
        line = fit_step_time(sizes, times(sizes, 0.02, draw), [known] * len(sizes))
        held += [
            line.dispatch_s_interval[0] <= DISPATCH_S <= line.dispatch_s_interval[1],
            line.rate_interval[0] <= RATE <= line.rate_interval[1],
        ]
    # 93 %, less what 400 of them may fall short by once in 10,000 studies.
    assert min(held) >= stats.binom.ppf(1e-4, STUDIES, 0.93)
    if known == 0.02 and len(sizes) > 3:  # with three the scatter has one degree of freedom, and says next to nothing
        assert max(held) < STUDIES


def test_a_step_counts_by_its_share_whatever_its_size():
    """10 % of the smallest batches' time are seen in t0, although they are nothing beside the largest one's."""
    seconds = times(SIZES)
    seconds[:3] = [1.1 * value for value in seconds[:3]]
    assert fit_step_time(SIZES, seconds, [0.001] * 9).dispatch_s > 1.03 * DISPATCH_S


def test_a_point_with_a_large_error_counts_little():
    seconds = times(SIZES)
    seconds[4] *= 2
    sure, unsure = (fit_step_time(SIZES, seconds, [0.01] * 4 + [error] + [0.01] * 4) for error in (0.01, 1.0))
    assert abs(unsure.dispatch_s / DISPATCH_S - 1) < 0.01 < abs(sure.dispatch_s / DISPATCH_S - 1)
    assert unsure.misfit == pytest.approx(0.5 / 0.5, rel=0.02)


def test_an_error_that_is_not_known_is_no_smaller_than_the_others():
    seconds = times(SIZES, 0.02, np.random.default_rng(0))
    for unknown in (math.nan, math.inf):
        errors = [0.01, 0.03, unknown, *[0.01] * 6]
        assert fit_step_time(SIZES, seconds, errors) == fit_step_time(SIZES, seconds, [0.01, 0.03, 0.03, *[0.01] * 6])
    assert fit_step_time(SIZES, seconds, [math.nan] * 9) == fit_step_time(SIZES, seconds, [0.0] * 9)


def test_times_that_are_off_the_line_widen_the_intervals():
    seconds = times(SIZES)
    straight = fit_step_time(SIZES, seconds, [0.001] * 9)
    bent = fit_step_time(
        SIZES, [value * (1.3 if size > 500 else 1) for value, size in zip(seconds, SIZES, strict=True)], [0.001] * 9
    )
    assert bent.misfit > 0.05 > straight.misfit
    assert np.diff(bent.dispatch_s_interval) > 10 * np.diff(straight.dispatch_s_interval)


def test_no_dispatch_is_told_as_none():
    line = fit_step_time(SIZES, [size / RATE for size in SIZES], [0.01] * 9)
    assert line.dispatch_s == pytest.approx(0, abs=1e-7)
    assert line.dispatch_s_interval[0] == 0


def test_batches_too_small_to_show_arithmetic_leave_the_rate_open():
    line = fit_step_time([1, 2, 3], times([1, 2, 3], 0.01, np.random.default_rng(1)), [0.05] * 3)
    assert line is None or line.rate_interval[1] == math.inf


@pytest.mark.parametrize(
    ("sizes", "seconds"),
    [
        ([], []),
        ([16, 32], [1.0, 2.0]),
        ([16, 16, 32, 32], [1.0, 1.1, 2.0, 2.1]),
        ([16, 32, 64], [1.0, math.nan, 2.0]),
        ([16, 32, 64], [1.0, 0.0, 2.0]),
        ([16, 32, 64], [1.0, math.inf, 2.0]),
        ([16, 32, 64], [3.0, 2.0, 1.0]),
        ([16, 32, 64, 128], [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_there_is_no_line_through(sizes, seconds):
    assert fit_step_time(sizes, seconds, [0.01] * len(sizes)) is None


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(1e-9, 1e9)), max_size=9), st.floats(0, 10))
def test_any_times_give_a_line_of_numbers_or_none(points, error):
    line = fit_step_time([b for b, _ in points], [s for _, s in points], [error] * len(points))
    if line is not None:
        assert 0 <= line.dispatch_s_interval[0] <= line.dispatch_s <= line.dispatch_s_interval[1] < math.inf
        assert 0 < line.rate_interval[0] <= line.rate <= line.rate_interval[1]
        assert math.isfinite(line.misfit)


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="zip"):
        fit_step_time([16, 32, 64], [1.0, 2.0], [0.1] * 3)
