"""Verdicts: which one is due, what it costs to look often or at much, and that it says why."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_loop.statistics.holm import levels
from mnist_loop.statistics.judgement import CellSeries, certain, judge_cells, judge_rounds
from mnist_loop.statistics.pairing import Round
from mnist_loop.statistics.ratio import at, paired_ratio
from mnist_loop.statistics.speed_verdict import Band, SpeedVerdict

MARGIN = 0.01
PROBABILITIES = st.floats(0, 1)


def series(change=0.0, noise=0.002, generations=12, seed=0):
    return np.random.default_rng(seed).normal(math.log1p(change), noise, (generations, 4)).tolist()


def one(first, second=(), control=(), margin=MARGIN, **more):
    (opinion,) = judge_cells([CellSeries(first, second, control)], margin, **more)
    return opinion


def test_the_ratio_of_a_red_is_that_of_the_run_closer_to_the_margin():
    near, far = series(0.03), series(0.05, seed=1)
    for ratio in (one(near, far).ratio, one(far, near).ratio):
        assert (ratio.low, ratio.high) == pytest.approx((paired_ratio(near).low, paired_ratio(near).high), rel=1e-12)
    near, far = series(-0.03), series(-0.05, seed=1)
    for ratio in (one(near, far).ratio, one(far, near).ratio):
        assert (ratio.low, ratio.high) == pytest.approx((paired_ratio(near).low, paired_ratio(near).high), rel=1e-12)


def test_a_first_red_waits_for_its_confirmation():
    for second in ((), series(0.03, generations=4, seed=1)):
        opinion = one(series(0.03), second)
        assert (opinion.verdict, opinion.unconfirmed, opinion.certain) == (SpeedVerdict.INCONCLUSIVE, True, False)


@pytest.mark.parametrize("change", [0.0, 0.01, -0.05])
def test_a_red_that_the_second_run_does_not_bear_out_is_not_called(change):
    opinion = one(series(0.03), series(change, seed=1))
    assert (opinion.verdict, opinion.unconfirmed) == (SpeedVerdict.INCONCLUSIVE, True)


def test_same_needs_no_second_run():
    opinion = one(series())
    assert (opinion.verdict, opinion.unconfirmed, opinion.certain) == (SpeedVerdict.SAME, False, True)


def test_an_interval_across_the_margin_is_inconclusive_and_says_what_could_have_been_seen():
    opinion = one(series(0.01, noise=0.01))
    assert (opinion.verdict, opinion.unconfirmed) == (SpeedVerdict.INCONCLUSIVE, False)
    assert MARGIN < opinion.detectable < 0.03


def test_identical_code_that_differs_makes_all_inconclusive():
    control = series(0.04, seed=2)
    for first in (series(0.03), series(), series(0.01, noise=0.01)):
        opinion = one(first, control=control)
        assert (opinion.verdict, opinion.unconfirmed) == (SpeedVerdict.INCONCLUSIVE, False)
    assert one(series(0.03), series(0.03, seed=1), control).unconfirmed
    assert one(series(), control=series(0.004, seed=2)).verdict is SpeedVerdict.SAME
    assert one(series(), control=series(0.04, generations=4)).verdict is SpeedVerdict.SAME, "too few to say so"


@pytest.mark.parametrize("restarts", range(5))
def test_too_few_restarts_say_nothing(restarts):
    opinion = one(series(0.5, generations=restarts))
    assert opinion.verdict is SpeedVerdict.INCONCLUSIVE
    assert (opinion.ratio is None) == (restarts < 2)
    assert (opinion.detectable == math.inf) == (restarts < 2)


def test_every_look_pays():
    first = series(0.0145, noise=0.006, generations=10)
    assert one(first, first).verdict is SpeedVerdict.SLOWER
    assert one(first, first, looks=1000).verdict is SpeedVerdict.INCONCLUSIVE
    assert one(first, first, looks=8).ratio.confidence == pytest.approx(1 - 0.05 / 8)


def test_every_cell_pays_and_holm_gives_back():
    """A cell that is decided leaves its share to the others; one that is not leaves nothing."""
    clear, faint = CellSeries(series(0.2), series(0.2, seed=1)), CellSeries(series(0.01, noise=0.01))
    *sure, unsure = judge_cells([clear, clear, faint], MARGIN)
    assert sorted(one.ratio.confidence for one in sure) == pytest.approx([0.95, 0.975]), "two to confirm"
    waiting = judge_cells([CellSeries(clear.first), CellSeries(clear.first), faint], MARGIN)
    assert sorted(one.ratio.confidence for one in waiting) == pytest.approx([0.975, 1 - 0.05 / 3, 1 - 0.05 / 3])
    assert {one.verdict for one in sure} == {SpeedVerdict.SLOWER}
    assert unsure.ratio.confidence == pytest.approx(1 - 0.05 / 3), "it may still be SAME, of which there are three"
    (alone,) = judge_cells([faint], MARGIN)
    assert alone.ratio.confidence == pytest.approx(0.95)


@given(st.lists(PROBABILITIES, min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_definition_says(p_values, level):
    """The p-values that are rejected are the smallest ones, up to the first above its own share of the level."""
    found = levels(p_values, level)
    ordered = sorted(p_values)
    below = [p < level / (len(p_values) - i) for i, p in enumerate(ordered)]
    count = below.index(False) if False in below else len(below)
    assert sorted(p for p, (rejected, _) in zip(p_values, found, strict=True) if rejected) == ordered[:count]
    for p, (rejected, held_to) in zip(p_values, found, strict=True):
        assert rejected == (p < held_to)
        assert level / len(p_values) <= held_to <= level


@given(
    st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)), min_size=1, max_size=4),
    st.floats(0, 0.05),
    st.integers(1, 10),
)
def test_a_verdict_is_what_its_interval_says(changes, margin, looks):
    """Whatever else decided, the interval beside a verdict bears it out."""
    cells = [CellSeries(series(a, seed=i), series(b, seed=i + 9)) for i, (a, b) in enumerate(changes)]
    for opinion in judge_cells(cells, margin, looks=looks):
        if opinion.certain:
            assert Band(margin).verdict(opinion.ratio) is opinion.verdict
        assert opinion.ratio.confidence >= 0.95


@given(st.floats(-0.1, 0.1), st.floats(0, 0.05), st.sampled_from([0.5, 0.9, 0.99, 0.9999]))
def test_the_p_values_of_the_band_are_those_of_its_intervals(change, margin, confidence):
    band, ratio = Band(margin), paired_ratio(series(change, noise=0.01))
    verdict = band.verdict(at(ratio, confidence))
    assert (band.p_different(ratio) < 1 - confidence) == (verdict in (SpeedVerdict.SLOWER, SpeedVerdict.FASTER))
    assert (band.p_same(ratio) < 1 - confidence) == (verdict is SpeedVerdict.SAME)


@given(st.floats(-0.08, 0.08), st.floats(-0.08, 0.08))
def test_the_other_way_round_the_verdict_is_the_other(change, again):
    first, second = series(change, noise=0.01), series(again, noise=0.01, seed=1)
    inverse = one([[-x for x in rounds] for rounds in first], [[-x for x in rounds] for rounds in second])
    opposite = {SpeedVerdict.SLOWER: SpeedVerdict.FASTER, SpeedVerdict.FASTER: SpeedVerdict.SLOWER}
    verdict = one(first, second).verdict
    assert inverse.verdict is opposite.get(verdict, verdict)


def test_identical_code_is_called_something_else_in_at_most_five_of_a_hundred_runs():
    """Four cells, three looks, margin 0, first runs alone: 0.05 in all, here of 100; 15 are once in 7,000 studies."""
    draw, reds = np.random.default_rng(0), 0
    for _ in range(100):
        cells = draw.standard_t(3, (4, 24, 3)).tolist()
        looks = [judge_cells([CellSeries(cell[:n]) for cell in cells], 0.0, looks=3) for n in (6, 12, 24)]
        reds += any(one.unconfirmed for opinions in looks for one in opinions)
    assert reds <= 14


def test_rounds_are_sorted_into_cells():
    """Two arms beside the first and a control, two batch sizes, of which one has not been measured yet."""
    draw = np.random.default_rng(0)
    rounds = [
        Round(64, run, generation + 100 * run, 0.0, tuple(draw.normal([0, 0.05, 0, 0], 0.002)))
        for run in (1, 2)
        for generation in range(8)
        for _ in range(3)
    ]
    judged = judge_rounds(rounds, 4, [64, 256], MARGIN, 0.95, 8)
    assert [(one.arm, one.batch_size) for one in judged] == [(1, 64), (2, 64), (1, 256), (2, 256)]
    assert [one.verdict for one in judged] == [SpeedVerdict.SLOWER, SpeedVerdict.SAME] + [SpeedVerdict.INCONCLUSIVE] * 2
    assert [one.certain for one in judged] == [True, True, False, False]
    assert not certain(judged)
    assert certain(judged[:2])
    assert judged[0].control.generations == 16
    assert judged[2].control is None


@pytest.mark.parametrize("wrong", [{"margin": -0.1}, {"confidence": 1.0}, {"looks": 0}, {"margin": math.nan}])
def test_a_plan_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="expected a margin of at least 0"):
        judge_cells([], **{"margin": 0.01, **wrong})


@pytest.mark.parametrize(
    ("first", "second", "control", "said"),
    [
        (
            series(0.03),
            series(0.03, seed=1),
            (),
            r"slower by 2\.\d% to 3\.?\d?% and by \S+% to \S+% in the other run, .* 1% in both runs",
        ),
        (
            series(-0.03),
            series(-0.03, seed=1),
            (),
            r"faster by (2\.\d|3)% to 3\.?\d?% and by \S+% to \S+% in the other run, .* 1% in both runs",
        ),
        (series(0.03), (), (), r"slower by 2\.\d% to 3\.\d% in the first run, .* confirmed by a second"),
        (series(0.03), series(seed=1), (), r"slower by 2.* in the second: not confirmed"),
        (series(), (), (), r"the interval, -0\.\d+% to \+0\.\d+% of time, is within the margin of 1%"),
        (series(0.01, noise=0.01), (), (), r"the interval, .* neither .* could have seen \d\.\d%"),
        (series(), series(0.2, seed=1, generations=40), (), r".*: the runs do not agree"),
        (series(), (), series(0.04, seed=2), r"identical code differed by [34]\.?\d?% .*"),
        (series(generations=3), (), (), r"too few restarts: 3 of at least 5"),
        ([[200.0]] * 6, [[-200.0]] * 6, (), r"slower by more than 10000% .*"),
    ],
)
def test_the_reason_has_the_figures(first, second, control, said):
    """One sentence for each way to come to a verdict; SLOWER and FASTER take both runs, SAME takes one."""
    decision = one(first, second, control)
    assert re.fullmatch(said, decision.reason)
    expected = {
        "both runs": decision.ratio and ("SLOWER" if decision.ratio.estimate > 1 else "FASTER"),
        "is within": "SAME",
    }
    verdicts = [verdict for words, verdict in expected.items() if words in decision.reason]
    assert decision.verdict.value == (verdicts or ["INCONCLUSIVE"])[0]
