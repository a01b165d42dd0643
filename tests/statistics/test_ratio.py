"""The ratio of paired times: what its interval promises, and what it refuses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mnist_loop.statistics import bootstrap
from mnist_loop.statistics.bootstrap import bootstrap_trimmed_mean
from mnist_loop.statistics.ratio import at, p_faster, p_slower, paired_ratio, reach
from tests.coverage_study import HIGHEST, LOWEST, page, simulate, within
from tests.simulated_series import SCENARIOS, intervals, medians

SIMULATIONS = 600
POPULATION = 40_000  # the truth is then known to a hundredth of the interval of 10 generations
# A cell whose true coverage is on the bound falls this far outside by chance once in 10,000 studies.
CHANCE = 1e-4

LOGS = st.floats(-0.5, 0.5)
SERIES = st.lists(st.lists(LOGS, min_size=1, max_size=8), min_size=2, max_size=30)


@pytest.mark.parametrize("generations", [5, 10])
@pytest.mark.parametrize("key", SCENARIOS)
def test_the_interval_holds_the_truth_in_93_to_97_of_100_cases(key, generations):
    cell = simulate(key, generations, SIMULATIONS, seed=2, population=POPULATION)
    fewest = stats.binom.ppf(CHANCE, SIMULATIONS, LOWEST) / SIMULATIONS
    most = stats.binom.isf(CHANCE, SIMULATIONS, HIGHEST) / SIMULATIONS
    assert fewest <= cell.coverage <= most


def test_the_study_looks_at_what_paired_ratio_returns():
    middle = medians(SCENARIOS["restarts"], 3, 7, seed=0)
    low, high = intervals(middle, stats.t.ppf(0.975, 6))
    for index in range(3):
        ratio = paired_ratio([[value] for value in middle[index]])
        assert (ratio.low, ratio.high) == pytest.approx((math.exp(low[index]), math.exp(high[index])), rel=1e-12)


def test_the_page_of_the_study_names_what_is_outside():
    inside, outside = simulate("normal", 6, 200, population=8000), simulate("normal", 10, 200, population=8000)
    outside = type(outside)(**{**vars(outside), "coverage": 0.5})
    assert not within(outside)
    text = page([inside, outside])
    assert "Outside 93 to 97 %: normal at 10: 50.0" in text
    assert text.count("| independent, normal |") == 3


@given(SERIES)
def test_the_interval_holds_the_estimate_and_grows_with_confidence(series):
    ratio = paired_ratio(series)
    wide = at(ratio, 0.9999)
    assert wide.low <= ratio.low <= ratio.estimate <= ratio.high <= wide.high
    assert (ratio.generations, ratio.rounds) == (len(series), sum(map(len, series)))
    back = at(wide, 0.95)
    assert (back.low, back.high) == pytest.approx((ratio.low, ratio.high), rel=1e-9)


@given(SERIES)
def test_the_other_way_round_is_the_inverse(series):
    ratio, inverse = paired_ratio(series), paired_ratio([[-value for value in rounds] for rounds in series])
    assert 1 / inverse.estimate == pytest.approx(ratio.estimate, rel=1e-9)
    assert (1 / inverse.high, 1 / inverse.low) == pytest.approx((ratio.low, ratio.high), rel=1e-9)


@given(SERIES, st.randoms())
def test_the_order_of_generations_and_rounds_does_not_matter(series, random):
    shuffled = [random.sample(rounds, len(rounds)) for rounds in random.sample(series, len(series))]
    before, after = paired_ratio(series), paired_ratio(shuffled)
    assert (before.low, before.high) == pytest.approx((after.low, after.high), rel=1e-12)


@given(SERIES, st.floats(0.5, 2), st.sampled_from([0.5, 0.95, 0.999, 0.99999]))
def test_a_p_value_says_what_the_interval_says(series, limit, confidence):
    ratio = paired_ratio(series)
    tail = (1 - confidence) / 2
    for p, beyond in (
        (p_slower(ratio, limit), at(ratio, confidence).low > limit),
        (p_faster(ratio, limit), at(ratio, confidence).high < limit),
    ):
        assert 0 <= p <= 1
        assert (p < tail) == beyond or p == pytest.approx(tail, rel=1e-6)


def test_high_confidence_is_not_limited_by_the_number_of_resamples():
    series = np.random.default_rng(0).normal(0.03, 0.01, (10, 5)).tolist()
    widths = [math.log(at(paired_ratio(series), 1 - 10.0**-n).high) for n in range(1, 12)]
    assert np.all(np.diff(widths) > 0)


def test_one_spoiled_round_or_generation_does_not_move_the_estimate_far():
    series = np.random.default_rng(0).normal(0.03, 0.01, (10, 5))
    spoiled = series.copy()
    spoiled[0, 0] = 3.0
    assert paired_ratio(spoiled.tolist()).estimate == pytest.approx(paired_ratio(series.tolist()).estimate, abs=0.004)
    spoiled[1] = 3.0
    assert paired_ratio(spoiled.tolist()).estimate == pytest.approx(paired_ratio(series.tolist()).estimate, abs=0.01)


def test_the_ends_are_the_expanded_percentiles_of_a_bootstrap(monkeypatch):
    """A bootstrap written out, with 20 generations, of which 3 are trimmed at either end."""
    n, resamples = 20, 200_000
    monkeypatch.setattr(bootstrap, "RESAMPLES", resamples)
    bootstrap._resampled_weights.cache_clear()
    draw = np.random.default_rng(0)
    values = draw.standard_t(3, n)
    _, below, above = bootstrap_trimmed_mean(values[None, :])
    bootstrap._resampled_weights.cache_clear()
    drawn = np.sort(draw.choice(values, (resamples, n)), axis=1)[:, 3:-3].mean(axis=1)
    t = stats.t.ppf(0.95, n - 1)
    tail = stats.norm.cdf(-t * math.sqrt(n / (n - 1)))
    centre = np.sort(values)[3:-3].mean()
    expected = (centre - np.quantile(drawn, tail)) / t, (np.quantile(drawn, 1 - tail) - centre) / t
    # A quantile with 4 % beyond it is known to 0.3 % of its distance with so many resamples; dropping
    # sqrt(n / (n - 1)) moves it by 2.6 %.
    assert (below[0], above[0]) == pytest.approx(expected, rel=0.013)


def test_more_rounds_in_a_generation_do_not_pass_for_more_generations():
    """What all rounds of a generation share, their process, is not averaged away by more of them."""
    of_process = np.random.default_rng(0).normal(0, 0.01, (8, 1))
    few, many = (paired_ratio((of_process + np.zeros(rounds)).tolist()) for rounds in (3, 300))
    assert (few.low, few.high, few.standard_error) == (many.low, many.high, many.standard_error)


def test_the_same_seed_gives_the_same_interval_and_another_hardly_another():
    series = np.random.default_rng(0).normal(0, 0.01, (12, 5)).tolist()
    assert paired_ratio(series, seed=1) == paired_ratio(series, seed=1)
    one, other = paired_ratio(series, seed=1), paired_ratio(series, seed=2)
    assert one != other
    assert one.high - 1 == pytest.approx(other.high - 1, rel=0.1)


def test_many_samples_at_once_are_as_one_by_one():
    values = np.random.default_rng(0).normal(0, 1, (1200, 6))
    together = np.stack(bootstrap_trimmed_mean(values))
    alone = np.stack([np.concatenate(bootstrap_trimmed_mean(values[i : i + 1])) for i in (0, 499, 500, 1199)], axis=1)
    assert together[:, [0, 499, 500, 1199]] == pytest.approx(alone, rel=1e-9)


def test_generations_that_all_agree_are_a_point():
    ratio = paired_ratio([[0.1]] * 6, confidence=0.999)
    assert ratio.low == pytest.approx(ratio.high)
    assert p_slower(ratio, 1.0) == 0
    assert p_slower(ratio, 1.2) == 1


def test_reach_is_the_change_that_is_found_with_its_power():
    draw = np.random.default_rng(0)
    limit, found, shown = 0.01, [], []
    ratio = paired_ratio(draw.normal(0, 0.01, (30, 1)).tolist())
    change = limit + reach(ratio, 0.95) * (0.01 / math.sqrt(30)) / ratio.standard_error
    for _ in range(300):
        one = paired_ratio(draw.normal(change, 0.01, (30, 1)).tolist())
        found.append(math.log(one.low) > limit)
        shown.append(one.standard_error)
    # 300 of them with a share of 0.8 differ from it by 0.093 once in 10,000 times; the trimmed mean is a little less
    # efficient than the mean that the standard error above is of.
    assert np.mean(found) == pytest.approx(0.8, abs=0.13)


@pytest.mark.parametrize(
    ("series", "confidence", "message"),
    [
        ([], 0.95, "expected at least 2"),
        ([[0.1]], 0.95, "expected at least 2"),
        ([[0.1], []], 0.95, "without rounds"),
        ([[0.1], [math.nan]], 0.95, "no number from -300 to 300"),
        ([[0.1], [math.inf]], 0.95, "no number"),
        ([[0.1], [1e6]], 0.95, "no number"),
        ([[0.1], [0.2]], 1.0, "confidence"),
        ([[0.1], [0.2]], 0.0, "confidence"),
    ],
)
def test_what_cannot_be_told_is_refused(series, confidence, message):
    with pytest.raises(ValueError, match=message):
        paired_ratio(series, confidence)


@given(st.lists(st.lists(st.floats(-300, 300), min_size=1, max_size=3), min_size=2, max_size=5))
def test_absurd_ratios_have_ends_that_are_numbers(series):
    ratio = at(paired_ratio(series), 0.999999)
    assert all(map(math.isfinite, (ratio.low, ratio.high)))
    assert 0 < ratio.low <= ratio.high
    assert 0 <= p_slower(ratio, 1.01) <= 1
