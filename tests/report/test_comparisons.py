"""What is put beside what, and what is told of it: stored sweeps, facts, and paired runs as they are stored."""

import json
import math
import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_loop.report import facts
from mnist_loop.report.contenders import put_side_by_side
from mnist_loop.report.reading import read_result
from mnist_loop.report.shares import flops_an_image, layer_sizes, shares
from mnist_loop.report.stored import ComparisonResult, Refused, RulerResult, WorkloadId
from mnist_loop.report.sweep_difference import compare_runs, welch
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from mnist_loop.support.limits import MOST_RESTARTS
from tests import results_maker as made
from tests.report.test_reading import ANYTHING, assert_sound, mutated
from tests.results_maker import CPU, GPU

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def at(minutes):
    return (START + timedelta(minutes=minutes)).isoformat()


def runs(torch, moments, speed=1.0, noise=0.0, **options):
    """Sweeps of one thing at several moments; ``noise`` is between runs."""
    draw = made.generator(f"{torch} {speed} {noise}")
    return [
        made.sweep(
            f"{torch}-{minute}.json",
            torch=torch,
            when=at(minute),
            speed=speed * math.exp(draw.gauss(0.0, noise)),
            batch_sizes=(64,),
            seed=minute,
            **options,
        )
        for minute in moments
    ]


def verdicts(*sweeps):
    (family,) = put_side_by_side(sweeps).families
    return {entry.evidence.verdict for entry in family.entries if entry.contender}


def reasons(*sweeps):
    (family,) = put_side_by_side(sweeps).families
    return {entry.evidence.reason for entry in family.entries if entry.contender}


# Sweeps beside each other


def test_one_run_of_each_tells_no_difference():
    """Twice as fast, and still nothing is known of what runs differ by: a ratio, and advice."""
    sweeps = (*runs("2.4", [0]), *runs("2.15", [1], speed=2.0))
    (family,) = put_side_by_side(sweeps).families
    entry = next(entry for entry in family.entries if entry.contender and entry.workload.part == "step")
    assert entry.evidence.ratio == pytest.approx(0.5, rel=0.05)
    assert entry.evidence.interval is None
    assert verdicts(*sweeps) == {SpeedVerdict.INCONCLUSIVE}
    (reason,) = reasons(*sweeps)
    assert reason.startswith("no difference can be told from 1 run of the first and 1 run of the other")
    assert "`mnist-loop compare`" in reason


def test_two_runs_of_one_side_are_too_few():
    """Three of each are needed: two say next to nothing of how much runs differ."""
    sweeps = (*runs("2.4", [0, 2, 4], noise=0.001), *runs("2.15", [1, 3], speed=0.5, noise=0.001))
    assert verdicts(*sweeps) == {SpeedVerdict.INCONCLUSIVE}


def test_runs_in_turns_tell_a_difference():
    """Three of each, A B A B A B, with a difference far beyond what runs differ by."""
    slow = (*runs("2.4", [0, 2, 4], noise=0.005), *runs("2.15", [1, 3, 5], speed=0.5, noise=0.005))
    assert verdicts(*slow) == {SpeedVerdict.SLOWER}
    fast = (*runs("2.4", [0, 2, 4], noise=0.005), *runs("2.15", [1, 3, 5], speed=2.0, noise=0.005))
    assert verdicts(*fast) == {SpeedVerdict.FASTER}


def test_runs_one_after_the_other_tell_nothing():
    """A A A B B B: a machine that changed in between would look the same."""
    sweeps = (*runs("2.4", [0, 1, 2], noise=0.005), *runs("2.15", [3, 4, 5], speed=0.5, noise=0.005))
    assert verdicts(*sweeps) == {SpeedVerdict.INCONCLUSIVE}
    (reason,) = reasons(*sweeps)
    assert "all runs of the one came before those of the other" in reason
    assert verdicts(*sweeps[3:], *sweeps[:3]) == {SpeedVerdict.INCONCLUSIVE}, "the order of the files does not matter"


def test_runs_that_differ_among_themselves_tell_nothing():
    """A difference within what runs of one thing differ by."""
    sweeps = (*runs("2.4", [0, 2, 4], noise=0.2), *runs("2.15", [1, 3, 5], speed=0.9, noise=0.2))
    assert verdicts(*sweeps) == {SpeedVerdict.INCONCLUSIVE}


def test_many_equal_runs_are_the_same():
    """Twenty of each that agree within a per cent."""
    sweeps = (*runs("2.4", range(0, 40, 2), noise=0.003), *runs("2.15", range(1, 40, 2), noise=0.003))
    assert verdicts(*sweeps) == {SpeedVerdict.SAME}


def test_runs_equal_to_the_last_digit_are_no_evidence():
    """Copies under other dates would give an interval without width."""
    base = {START + timedelta(minutes=minute): 100.0 for minute in (0, 2, 4)}
    other = {START + timedelta(minutes=minute): 50.0 for minute in (1, 3, 5)}
    found = compare_runs(base, other, 0.95, same_machine=True)
    assert found.verdict is SpeedVerdict.INCONCLUSIVE
    assert "to the last digit" in found.reason


def test_identical_code_is_seldom_called_different():
    """Of 2,000 made-up pairs of three runs each, with heavy tails, few intervals at 95 % miss 1, and fewer verdicts.

    By chance alone 5 % of the intervals would miss; the bound is four standard errors above that.
    """
    draw = random.Random(0)  # noqa: S311  # no secret
    wrong = missed = 0
    for _ in range(2000):
        base, other = (
            {
                START + timedelta(minutes=2 * run + side): math.exp(0.05 * draw.gauss(0, 1) / draw.uniform(0.2, 1))
                for run in range(3)
            }
            for side in (0, 1)
        )
        low, high = welch(base, other, 0.95)
        missed += not low <= 1.0 <= high
        wrong += compare_runs(base, other, 0.95, same_machine=True).verdict in (
            SpeedVerdict.SLOWER,
            SpeedVerdict.FASTER,
        )
    assert missed / 2000 < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 2000)
    assert missed > 0
    assert wrong <= missed


def test_the_interval_is_welchs():
    """Against scipy's own test: its p-value is 5 % just where the interval at 95 % ends at 1."""
    from scipy import stats

    base = [100.0, 104.0, 99.0, 103.0]
    other = [90.0, 97.0, 91.0]
    logs = [[math.log(rate) for rate in side] for side in (base, other)]
    p_value = float(stats.ttest_ind(*logs, equal_var=False).pvalue)
    timed = [{START + timedelta(minutes=place): rate for place, rate in enumerate(side)} for side in (base, other)]
    low, high = welch(*timed, confidence=1 - p_value)
    assert low == pytest.approx(1.0, abs=1e-9)
    assert high > 1.1


def test_more_comparisons_need_more_evidence():
    """The confidence is shared by all verdicts of a report: with more workloads each interval is wider."""
    few = (*runs("2.4", [0, 2, 4], noise=0.01), *runs("2.15", [1, 3, 5], noise=0.01))
    many = tuple(
        replace(
            sweep,
            measurements=tuple(
                replace(found, workload=replace(found.workload, batch_size=size))
                for found in sweep.measurements
                for size in (64, 65, 66, 67)
            ),
        )
        for sweep in few
    )
    widths = []
    for sweeps in (few, many):
        (family,) = put_side_by_side(sweeps).families
        evidence = next(entry.evidence for entry in family.entries if entry.contender)
        widths.append(evidence.interval[1] / evidence.interval[0])
    assert widths[0] < widths[1]


def test_different_work_is_not_compared():
    """MNIST beside Digits: one sentence that names both, and no ratio."""
    found = put_side_by_side([made.sweep("a.json", data="MNIST"), made.sweep("b.json", data="Digits")])
    assert found.families == ()
    assert found.refused == ("b.json measures Digits, a.json MNIST: different work is not compared.",)
    other = made.sweep("c.json", data="MNIST", torch="2.4")
    other = replace(
        other,
        measurements=tuple(
            replace(one, workload=replace(one.workload, model="784-64-10")) for one in other.measurements
        ),
    )
    (sentence,) = put_side_by_side([made.sweep("a.json", data="MNIST"), other]).refused
    assert sentence == (
        "c.json measures MNIST with model 784-64-10, a.json MNIST with model 784-128-10: "
        "different work is not compared."
    )


def test_batch_sizes_that_one_lacks_are_not_compared():
    """Only the same part and batch size has a ratio; where nothing is the same, that is told."""
    first = made.sweep("a.json", torch="2.4", batch_sizes=(16, 64))
    second = made.sweep("b.json", torch="2.15", batch_sizes=(64, 256))
    (family,) = put_side_by_side([first, second]).families
    compared = {entry.workload.batch_size for entry in family.entries if entry.evidence}
    assert compared == {64}
    third = made.sweep("c.json", torch="2.9", batch_sizes=(4096,))
    (family,) = put_side_by_side([first, third]).families
    assert family.notes == ("torch 2.9 and torch 2.4 have no part and batch size in common: nothing is compared.",)


def test_different_machines_need_their_rulers():
    """Without a ruler of both there is no ratio, and the sentence says whose is missing."""
    for missing in (0, 1):
        sweeps = [
            made.sweep("a.json", ruler=missing != 0),
            made.sweep("b.json", machine=GPU, device="cuda", ruler=missing != 1),
        ]
        (family,) = put_side_by_side(sweeps).families
        assert not any(entry.evidence for entry in family.entries)
        (note,) = family.notes
        assert f"there is no ruler of {family.labels[missing]}" in note
    ruled = [made.sweep("a.json"), made.sweep("b.json", machine=GPU, device="cuda", speed=8.0)]
    (family,) = put_side_by_side(ruled).families
    entry = next(entry for entry in family.entries if entry.contender and entry.workload.part == "step")
    assert entry.evidence.ratio == pytest.approx(1 / 8, rel=0.05)
    assert all(entry.shares for entry in family.entries)
    assert verdicts(*ruled) == {SpeedVerdict.INCONCLUSIVE}
    (reason,) = reasons(*ruled)
    assert "compare`" not in reason, "two machines cannot be measured in turns"


def test_different_machines_need_no_turns():
    """Three runs of each, on each machine's own day."""
    sweeps = (
        *runs("2.15", [0, 1, 2], noise=0.005),
        *runs("2.15", [100, 101, 102], noise=0.004, machine=GPU, device="cuda", speed=8.0),
    )
    assert verdicts(*sweeps) == {SpeedVerdict.FASTER}


def test_a_machine_is_known_by_its_hash():
    """The same hash under another name is the same machine; without a hash, all that is told must agree."""
    renamed = replace(CPU, name="another name")
    for other, count in ((renamed, 1), (replace(CPU, hash="000000"), 2), (replace(CPU, hash=None), 2)):
        sweeps = [made.sweep("a.json"), made.sweep("b.json", machine=other, when=at(1))]
        (family,) = put_side_by_side(sweeps).families
        assert len(family.contenders) == count


def test_the_runs_of_one_thing_are_put_together():
    """Same machine, software and setting: one contender with several runs, in the order of time."""
    sweeps = [*runs("2.4", [5, 1, 3]), *runs("2.15", [2])]
    (family,) = put_side_by_side(sweeps).families
    first, second = family.contenders
    assert [run.sweep.when for run in first.runs] == [at(1), at(3), at(5)]
    assert len(second.runs) == 1
    assert family.labels == ("torch 2.4", "torch 2.15")


# Shares of the ruler


def test_the_arithmetic_of_the_lesson():
    """Forward: 784 x 128 + 128 x 10 multiply-adds; backward: as many again, and the second layer's input gradient."""
    sizes = layer_sizes("784-128-10")
    forward = 784 * 128 + 128 * 10
    assert flops_an_image("evaluation", sizes) == 2 * forward
    assert flops_an_image("step", sizes) == flops_an_image("end to end", sizes) == 2 * (2 * forward + 128 * 10)
    assert flops_an_image("compiled epoch", sizes) == flops_an_image("end to end", sizes)
    assert flops_an_image("input pipeline", sizes) is None


@pytest.mark.parametrize("model", ["", "ProbeNet", "784-", "784-x-10", "9" * 50, "٣-٤", "-", "<script>"])
def test_a_model_of_another_kind_has_no_known_arithmetic(model):
    """It is called otherwise: no share of the matrix products is made up."""
    found = shares(1000.0, WorkloadId("step", 64, "Digits", model), RulerResult(**made.RULER))
    assert found.gemm is None
    assert found.dispatches == pytest.approx(0.064 / 4e-6)


def test_shares_are_of_the_ruler():
    """Half of its products' rate is a share of one half."""
    flops = flops_an_image("step", [784, 128, 10])
    found = shares(
        1000.0, WorkloadId("step", 100, "Digits"), RulerResult(gemm=2000.0 * flops, copy=784 * 4e6, dispatch=1e-3)
    )
    assert (found.gemm, found.copy, found.dispatches) == pytest.approx((0.5, 0.001, 100.0))


# Facts


def test_shared_facts_are_told_once():
    """What differs, or is not known of all, is in columns; the rest is shared."""
    found = facts.split_facts([{"torch": "2.4", "blas": "mkl", "cuda": "12"}, {"torch": "2.15", "blas": "mkl"}])
    assert found.shared == {"blas": "mkl"}
    assert found.differing == {"torch": ("2.4", "2.15"), "cuda": ("12", facts.UNKNOWN)}
    assert found.labels() == ("torch 2.4", "torch 2.15"), "cuda tells nothing that torch does not"


def test_labels_take_as_many_facts_as_are_needed():
    """Two that share a torch are told apart by their threads."""
    found = facts.split_facts(
        [
            {"torch": "2.4", "CPU threads": "1"},
            {"torch": "2.15", "CPU threads": "1"},
            {"torch": "2.15", "CPU threads": "2"},
        ]
    )
    assert found.labels() == ("torch 2.4 · CPU threads 1", "torch 2.15 · CPU threads 1", "torch 2.15 · CPU threads 2")


@given(results=st.lists(st.dictionaries(st.sampled_from("abcde"), st.sampled_from("xyz")), min_size=1, max_size=5))
def test_no_fact_is_lost(results):
    """Each fact is shared or differs, never both, and the labels tell apart whatever the facts do."""
    found = facts.split_facts(results)
    assert not found.shared.keys() & found.differing.keys()
    for place, told in enumerate(results):
        for name, value in told.items():
            assert found.shared.get(name, found.differing.get(name, [None] * 9)[place]) == value
    assert len(found.labels()) == len(results)
    rows = set(zip(*found.differing.values(), strict=True))
    assert len(set(found.labels())) == max(1, len(rows))


# Paired runs


def stored(folder, lines, cut=None):
    """A comparison on disk, its last characters cut off."""
    path = folder / "compare_x.jsonl"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(text[:cut])
    return path


SMALL = {"generations": 3, "rounds": 3, "runs": 1}


def test_a_comparison_is_read(tmp_path):
    """Arms, machine, plan and how it ended."""
    found = read_result(stored(tmp_path, made.comparison_lines(**SMALL)))
    assert isinstance(found, ComparisonResult)
    assert_sound(found)
    assert [arm.label for arm in found.arms] == ["torch214", "torch215", "torch214 again"]
    assert [arm.control for arm in found.arms] == [False, False, True]
    assert found.arms[1].ruler == RulerResult(**made.RULER)
    assert found.arms[1].first_step_s == {64: 0.03}
    assert found.arms[1].warm_up_s == {64: pytest.approx(0.15)}, "the blocks before the change-point"
    assert found.machine == CPU
    assert (found.margin, found.ended) == (0.01, "certain")
    assert found.facts["budget"] == "60 s"


def test_the_median_of_the_rulers_counts(tmp_path):
    """One ruler that a neighbour disturbed does not."""
    lines = made.comparison_lines(**SMALL)
    for gemm in (150e9, 1e9):
        lines.insert(-1, {"event": "ruler", "arm": 0, "at": 9.0, **made.RULER, "gemm": gemm})
    assert read_result(stored(tmp_path, lines)).arms[0].ruler.gemm == 150e9


def test_a_killed_run_is_read_as_far_as_it_goes(tmp_path):
    """No end, and the last line cut anywhere: the rest counts."""
    lines = made.comparison_lines(**SMALL, end=None)
    for cut in (None, -1, -2, -30, -120):
        found = read_result(stored(tmp_path, lines, cut))
        assert isinstance(found, ComparisonResult)
        assert found.ended.startswith("killed")


def test_a_comparison_that_was_continued_after_a_cut_line_is_read(tmp_path):
    """The half line before the one that says so is what the kill left."""
    lines = [json.dumps(line) for line in made.comparison_lines(**SMALL)]
    text = "\n".join([*lines[:-1], lines[-2][:40], '{"event": "continued", "at": 9.0}', *lines[-2:]])
    path = tmp_path / "x.jsonl"
    path.write_text(text + "\n")
    assert isinstance(read_result(path), ComparisonResult)


def test_damage_in_the_middle_is_told_with_its_line(tmp_path):
    """Only the last line can be the trace of a kill."""
    lines = [json.dumps(line) for line in made.comparison_lines(**SMALL)]
    lines[20] = lines[20][:30]
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(lines) + "\n")
    found = read_result(path)
    assert isinstance(found, Refused)
    assert found.reason.startswith("line 21: cut short")


def test_events_of_later_versions_are_passed_over(tmp_path):
    """What is not known is no damage."""
    lines = made.comparison_lines(**SMALL)
    lines.insert(5, {"event": "weather", "sun": [1, 2, 3]})
    assert isinstance(read_result(stored(tmp_path, lines)), ComparisonResult)


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        (0, {"arms": []}, "arms is a list of 0"),
        (0, {"arms": [{"label": "a"}]}, "arms is a list of 1"),
        (0, {"arms": [{"label": "a"}, {"label": "b", "control": True}]}, "arms is a list of 2"),
        (0, {"arms": [{"label": "a"}, {"label": "b", "control": True}, {"label": "c"}]}, "must be the control"),
        (0, {"arms": [{"label": label, "control": True} for label in "abc"]}, "must be the control"),
        (0, {"started": "yesterday"}, "started is 'yesterday', expected a time"),
        (0, {"machine": 3}, "machine is 3"),
        (-2, {"arm": 3}, "arm is 3"),
        (-2, {"arm": -1}, "arm is -1"),
        (-2, {"arm": True}, "arm is True"),
        (-2, {"batch_size": 65}, "batch_size is 65, expected one of those planned"),
        (-2, {"seconds": 0}, "seconds is 0"),
        (-2, {"seconds": float("nan")}, "seconds is nan"),
        (-2, {"images": 10**400}, "images is a number of 1329 bits"),
        (-2, {"run": 3}, "run is 3"),
        (-2, {"start": -1}, "start is -1"),
        (-2, {"event": None}, "event is missing"),
        (-1, {"why": "\x1b[31m"}, None),
        (-1, {"seconds": float("inf")}, "seconds is inf"),
    ],
)
def test_a_wrong_line_is_told(tmp_path, place, change, words):
    """The line, the name, what was found."""
    lines = made.comparison_lines(**SMALL)
    lines[place] = {**lines[place], **change}
    found = read_result(stored(tmp_path, lines))
    if words is None:
        assert_sound(found)
        assert isinstance(found, ComparisonResult)
    else:
        assert isinstance(found, Refused)
        assert words in found.reason
        assert found.reason.isprintable()


def test_a_margin_that_cannot_be_is_refused(tmp_path):
    """It is a share between 0 and 1."""
    lines = made.comparison_lines(**SMALL)
    lines[0]["plan"]["margin"] = 1
    assert "margin is 1" in read_result(stored(tmp_path, lines)).reason


@pytest.mark.parametrize("size", [2 * 2**20, 2**30])
def test_endless_lines_are_refused(tmp_path, size):
    """A line of a gigabyte is not read to its end, and one of two MiB is not taken for a cut one."""
    path = tmp_path / "x.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps(made.comparison_lines(**SMALL)[0]).encode() + b"\n")
        file.truncate(size)
    assert "too long" in read_result(path).reason


def test_the_cells_are_those_of_the_statistics(tmp_path):
    """Five per cent slower in two runs of five restarts: SLOWER, with all rounds of both as the series."""
    lines = made.comparison_lines(slowdown=1.05, rounds=4, generations=6)
    (cell,) = read_result(stored(tmp_path, lines)).cells
    assert cell.verdict is SpeedVerdict.SLOWER
    assert cell.ratio.low < 1.05 < cell.ratio.high
    assert cell.ratio.low > 1.01
    assert len(cell.pairs) == len(cell.control_pairs) == 2 * 6 * 4
    assert math.exp(sum(pair.log_ratio for pair in cell.pairs) / 48) == pytest.approx(1.05, rel=0.01)
    assert cell.control.low < 1.0 < cell.control.high
    assert cell.base_rate / cell.rate == pytest.approx(1.05, rel=0.02)
    assert cell.reason
    assert cell.workload == WorkloadId("step", 64, "Digits")


def test_a_round_that_was_not_finished_does_not_count(tmp_path):
    """Its blocks are there, and no pair is made of them."""
    lines = made.comparison_lines(generations=3, rounds=2, runs=1, end=None)
    whole = read_result(stored(tmp_path, lines)).cells[0].pairs
    assert len(whole) == 6
    short = read_result(stored(tmp_path, lines[:-1])).cells[0].pairs
    assert short == whole[:-1]


def test_one_restart_has_no_cell_and_is_named(tmp_path):
    """Nothing is known of what restarts differ by: no ratio is made up."""
    found = read_result(stored(tmp_path, made.comparison_lines(generations=1, rounds=3, runs=1)))
    assert found.cells == ()
    assert found.facts[facts.WITHOUT_VERDICT] == "torch215 at batch size 64"
    nothing = read_result(stored(tmp_path, made.comparison_lines()[:1]))
    assert isinstance(nothing, ComparisonResult)
    assert nothing.cells == ()


def test_thousands_of_restarts_are_refused(tmp_path):
    """The memory of the resampling grows with them."""
    block = made.comparison_lines(**SMALL)[-2]
    lines = [
        made.comparison_lines()[0],
        *({**block, "generation": number} for number in range(MOST_RESTARTS + 1)),
    ]
    assert f"more than {MOST_RESTARTS} restarts" in read_result(stored(tmp_path, lines)).reason


FEW = made.comparison_lines(generations=2, rounds=1, runs=1)


@given(header=mutated(FEW[0]), last=mutated(FEW[-2]) | ANYTHING)
def test_a_mutated_comparison_is_read_or_refused(tmp_path_factory, header, last):
    """Never another error, and whatever is read is sound."""
    path = tmp_path_factory.getbasetemp() / "mutated.jsonl"
    for lines in ([header, *FEW[1:]], [*FEW[:-1], last, FEW[-1]]):
        made.write_lines(path, lines)
        found = read_result(path)
        assert isinstance(found, (ComparisonResult, Refused))
        assert_sound(found)
