"""Exports: what other tools read of them is what was measured, under names that stay, and nothing is said twice."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnist_loop.errors import UserError
from mnist_loop.report.exports import EXPORTS
from mnist_loop.report.exports.series import FIELD_BYTES, field
from mnist_loop.report.stored import Refused, StoredResults
from tests.results_maker import CPU, GPU, comparison, sweep

HOSTILE = [
    "a|b",
    "`x`",
    "</script><b>",
    "two\nlines",
    "\ud800",
    "\u202etxt",
    "../../etc",
    ".",
    "",
    "%0A",
    "é" * 500,
    "x\0y",
]
SHOWN_DIGITS = 5e-6  # the largest relative error of six digits: half of the last one of 1.00000
SHOWN_END = 2 * SHOWN_DIGITS  # of a value and a distance that are both written so, next to the larger end

# Lone surrogates too: JSON may hold them, and they cannot be written as UTF-8.
texts = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), max_size=80), st.just("step"))
rates = st.floats(1e-3, 1e12)


def export(results, kind):
    return EXPORTS[kind](results)


def only(*sweeps, comparisons=()):
    return StoredResults(sweeps=sweeps, comparisons=comparisons)


@st.composite
def measured(draw):
    """A measurement of anything, under any name; what is out of the ordinary in the numbers has tests of its own."""
    base = sweep(batch_sizes=(16,)).measurements[0]
    made = sorted(draw(st.lists(rates, min_size=5, max_size=5)))
    workload = replace(base.workload, part=draw(texts), data=draw(texts), batch_size=draw(st.integers(1, 2**31)))
    setting = replace(
        base.setting, device=draw(texts), threads=draw(st.none() | st.integers(1, 999)), dtype=draw(texts)
    )
    low, q1, median, q3, high = made
    return replace(
        base, workload=workload, setting=setting, rates=tuple(made), low=low, q1=q1, median=median, q3=q3, high=high
    )


@st.composite
def stored(draw):
    """A sweep of a few measurements on one machine, each of something else."""
    listed = draw(st.lists(measured(), min_size=1, max_size=4, unique_by=lambda of: (of.workload, of.setting)))
    machine = replace(CPU, name=draw(texts), cpu=draw(st.none() | texts), gpus=(draw(texts),))
    software = {"torch": draw(texts), "python": draw(texts)}
    return replace(sweep(), machine=machine, software=software, measurements=tuple(listed))


@st.composite
def compared(draw):
    """A comparison of two arms with any names, on the machine that `stored` sweeps can be moved to."""
    made = comparison()
    arms = [replace(arm, label=draw(texts), settings={"device": draw(texts)}) for arm in made.arms]
    low, estimate, high = sorted(draw(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3)))
    cells = tuple(
        replace(cell, ratio=replace(cell.ratio, low=low, estimate=estimate, high=high), reason=draw(texts))
        for cell in made.cells
    )
    return replace(made, arms=tuple(arms), cells=cells)


# As the consumers read


def as_github_reads(text):
    """The entries as github-action-benchmark 1.22 takes them: strings, a finite value, a range that it can rescale."""
    entries = strict(text)
    assert isinstance(entries, list)
    assert entries, "the action fails on an empty list"
    for entry in entries:
        assert entry.keys() == {"name", "unit", "value", "range", "extra"}
        assert isinstance(entry["value"], float)
        assert all(isinstance(entry[key], str) for key in ("name", "unit", "range", "extra"))
        # It tells "±" from the number, and lets a range be that it cannot read as a number.
        assert not entry["range"] or float(re.fullmatch(r"± (\d.*)", entry["range"])[1]) >= 0
        # The name stands in one cell of a Markdown table, in backticks.
        assert entry["name"].isprintable()
        assert not set("|`") & set(entry["name"])
        assert all(line.isprintable() for line in entry["extra"].split("\n"))
    names = [entry["name"] for entry in entries]
    assert len(set(names)) == len(names), "it takes the first of a name for all of them"
    return {entry["name"]: entry for entry in entries}


def as_bencher_reads(text):
    """The benchmarks as Bencher 0.6 takes them: by name (no UUID, no slug, not one to ignore), measures by slug."""
    benchmarks = strict(text)
    for name, measures in benchmarks.items():
        assert 0 < len(name.encode()) <= 1024
        assert not re.fullmatch(r"[a-z0-9-]+", name), "it would be looked up as a slug or as a UUID"
        assert not name.endswith(("_bencher_ignore", "BencherIgnore", "-bencher-ignore"))
        for slug, metric in measures.items():
            assert re.fullmatch(r"[a-z]+(-[a-z]+)*", slug)
            assert {"value"} <= metric.keys() <= {"value", "lower_value", "upper_value"}
            assert all(isinstance(value, float) and math.isfinite(value) for value in metric.values())
    return benchmarks


def strict(text):
    """Decode JSON that any reader takes: no NaN, UTF-8, no name twice."""

    def once(pairs):
        names = [name for name, _ in pairs]
        assert len(set(names)) == len(names)
        return dict(pairs)

    def refuse(constant):
        raise AssertionError(constant)

    decoded = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    json.dumps(decoded, ensure_ascii=False).encode()  # which fails for half of a surrogate pair
    return decoded


# What is said is what was measured


@given(stored())
def test_github_holds_each_median_with_an_interval_that_covers_the_measured_one(a_sweep):
    entries = list(as_github_reads(export(only(a_sweep), "github")).values())
    assert len(entries) == len(a_sweep.measurements)
    for entry, of in zip(entries, a_sweep.measurements, strict=True):
        assert entry["unit"] == "images/s"
        assert math.isclose(entry["value"], of.median, rel_tol=SHOWN_DIGITS)
        half = float(entry["range"].removeprefix("± "))
        slack = SHOWN_END * max(of.high, of.median)
        assert of.median - half <= of.low + slack
        assert of.median + half >= of.high - slack
        assert any(math.isclose(half, abs(end - of.median), abs_tol=slack) for end in (of.low, of.high))


@given(compared())
def test_github_says_how_many_times_as_fast_an_arm_is(made):
    entries = list(as_github_reads(export(only(comparisons=(made,)), "github")).values())
    for entry, cell in zip(entries, made.cells, strict=True):
        assert entry["unit"] == "times as fast"
        assert math.isclose(entry["value"] * cell.ratio.estimate, 1.0, rel_tol=SHOWN_DIGITS)
        fastest = 1 / cell.ratio.low
        assert 1 / cell.ratio.estimate + float(entry["range"][2:]) >= fastest * (1 - SHOWN_END)
        assert entry["extra"].startswith(cell.verdict.value)


def test_an_arm_that_takes_twice_as_long_is_half_as_fast():
    cell = comparison().cells[0]
    made = replace(comparison(), cells=(replace(cell, ratio=replace(cell.ratio, estimate=2.0, low=1.6, high=2.5)),))
    (entry,) = as_github_reads(export(only(comparisons=(made,)), "github")).values()
    assert (entry["value"], entry["range"]) == (0.5, "± 0.125")  # 1/1.6 = 0.625 is farther from 0.5 than 1/2.5
    ((measures),) = as_bencher_reads(export(only(comparisons=(made,)), "bencher")).values()
    assert measures == {"relative-time": {"value": 2.0, "lower_value": 1.6, "upper_value": 2.5}}


@given(stored())
def test_bencher_holds_each_median_and_its_interval(a_sweep):
    benchmarks = as_bencher_reads(export(only(a_sweep), "bencher"))
    for measures, of in zip(benchmarks.values(), a_sweep.measurements, strict=True):
        assert measures["throughput"] == {"value": of.median, "lower_value": of.low, "upper_value": of.high}
        assert measures["memory"] == {"value": of.memory_mib * 1024 * 1024}


@given(compared())
def test_bencher_holds_each_ratio_and_its_interval(made):
    benchmarks = as_bencher_reads(export(only(comparisons=(made,)), "bencher"))
    for measures, cell in zip(benchmarks.values(), made.cells, strict=True):
        ends = {"lower_value": cell.ratio.low, "upper_value": cell.ratio.high}
        assert measures == {"relative-time": {"value": cell.ratio.estimate, **ends}}


def test_memory_that_is_not_known_is_not_said():
    a_sweep = sweep(batch_sizes=(16,))
    bare = replace(a_sweep, measurements=tuple(replace(of, memory_mib=None) for of in a_sweep.measurements))
    benchmarks = as_bencher_reads(export(only(bare), "bencher"))
    assert {slug for measures in benchmarks.values() for slug in measures} == {"throughput"}


@pytest.mark.parametrize("end", [math.inf, math.nan])
def test_an_interval_without_an_end_is_left_out_and_the_value_stays(end):
    cell = comparison().cells[0]
    made = replace(comparison(), cells=(replace(cell, ratio=replace(cell.ratio, low=0.0, high=end)),))
    (entry,) = as_github_reads(export(only(comparisons=(made,)), "github")).values()
    assert entry["range"] == ""
    ((measures),) = as_bencher_reads(export(only(comparisons=(made,)), "bencher")).values()
    assert measures["relative-time"] == {"value": cell.ratio.estimate, "lower_value": 0.0}


@pytest.mark.parametrize("kind", sorted(EXPORTS))
@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_a_value_that_no_reader_takes_is_refused_with_its_file(kind, value):
    a_sweep = sweep("odd.json")
    broken = replace(a_sweep.measurements[0], median=value)
    with pytest.raises(UserError, match=r"odd\.json.*only a finite number above zero"):
        export(only(replace(a_sweep, measurements=(broken,))), kind)


# Names


@pytest.mark.parametrize("kind", sorted(EXPORTS))
def test_another_version_speed_and_time_give_the_same_names(kind):
    old = sweep("old.json", torch="2.4.1", speed=0.5, when="2026-01-01T00:00:00+00:00")
    new = sweep("new.json", torch="2.15.0")
    assert benchmark_names(export(only(old), kind)) == benchmark_names(export(only(new), kind))


@pytest.mark.parametrize("kind", ["bencher", "github"])
def test_a_comparison_keeps_its_names_when_the_versions_under_its_labels_change(kind):
    made = comparison(labels=("released", "nightly"))
    newer = replace(made, arms=tuple(replace(arm, software={"torch": "9.9.9"}) for arm in made.arms), when="later")
    names = benchmark_names(export(only(comparisons=(made,)), kind))
    assert names == benchmark_names(export(only(comparisons=(newer,)), kind))
    assert all("nightly beside released" in name for name in names)


@pytest.mark.parametrize("kind", sorted(EXPORTS))
@pytest.mark.parametrize(
    ("of", "change"),
    [
        ("workload", {"part": "other"}),
        ("workload", {"batch_size": 17}),
        ("workload", {"data": "MNIST"}),
        ("workload", {"model": "784-10"}),
        ("setting", {"device": "cuda"}),
        ("setting", {"threads": 7}),
        ("setting", {"threads": None}),
        ("setting", {"dtype": "bfloat16"}),
    ],
)
def test_whatever_is_measured_otherwise_has_another_name(kind, of, change):
    a_sweep = sweep(batch_sizes=(16,))
    first = a_sweep.measurements[0]
    other = replace(first, **{of: replace(getattr(first, of), **change)})
    assert len(benchmark_names(export(only(replace(a_sweep, measurements=(first, other))), kind))) == 2


@pytest.mark.parametrize("kind", ["bencher", "github"])
@pytest.mark.parametrize("setting", ["device", "threads", "dtype", "engine"])
def test_a_comparison_with_other_settings_has_another_name(kind, setting):
    made = comparison(cells=comparison().cells[:1])
    for arms in (made.arms[:1], made.arms[1:2], made.arms[:2]):
        changed = [
            replace(arm, settings={**arm.settings, setting: "other"}) if arm in arms else arm for arm in made.arms
        ]
        assert len(benchmark_names(export(only(comparisons=(made, replace(made, arms=tuple(changed)))), kind))) == 2


@example(["%0A", "\n"])
@example(["\ud800", "\ud801"])
@example(["a" * 500 + "b", "a" * 500 + "c"])
@given(st.lists(texts, min_size=2, max_size=2, unique=True))
def test_two_texts_are_two_parts_of_a_name(pair):
    assert field(pair[0]) != field(pair[1])
    assert all(len(field(text).encode()) <= FIELD_BYTES for text in pair)


@pytest.mark.parametrize("long", ["\n" * 500, "x" * FIELD_BYTES, "x" * 100, "é" * 100])
def test_the_longest_name_is_short_enough_for_bencher(long):
    made = comparison(cells=comparison().cells[:1])
    arms = tuple(
        replace(arm, label=long, settings=dict.fromkeys(("device", "threads", "dtype", "engine"), long + arm.label))
        for arm in made.arms
    )
    workload = replace(made.cells[0].workload, part=long, data=long, model=long, batch_size=2**31)
    cells = (replace(made.cells[0], workload=workload),)
    as_bencher_reads(export(only(comparisons=(replace(made, arms=arms, cells=cells),)), "bencher"))


def benchmark_names(text):
    """The names in an export of any kind."""
    document = json.loads(text)
    if isinstance(document, list):
        return {entry["name"] for entry in document}
    return set(document)


# Which of several, and whether at all


@pytest.mark.parametrize("kind", sorted(EXPORTS))
def test_two_values_for_one_benchmark_are_refused_with_both_files(kind):
    pair = (sweep("old.json"), sweep("new.json"))
    with pytest.raises(UserError, match=r"old\.json and new\.json both measure .*input.pipeline"):
        export(only(*pair), kind)


@pytest.mark.parametrize("kind", sorted(EXPORTS))
def test_a_file_that_says_one_thing_twice_is_refused(kind):
    a_sweep = sweep("twice.json")
    with pytest.raises(UserError, match=r"twice\.json measures twice"):
        export(only(replace(a_sweep, measurements=a_sweep.measurements[:1] * 2)), kind)


@pytest.mark.parametrize("kind", sorted(EXPORTS))
def test_sweeps_that_add_to_each_other_are_one_export(kind):
    pair = (sweep("small.json", batch_sizes=(16,)), sweep("large.json", batch_sizes=(4096,)))
    together = benchmark_names(export(only(*pair), kind))
    assert together == benchmark_names(export(only(pair[0]), kind)) | benchmark_names(export(only(pair[1]), kind))


def test_github_takes_several_machines_and_tells_them_apart():
    on_both = only(sweep("here.json"), sweep("there.json", machine=GPU))
    names = as_github_reads(export(on_both, "github"))
    assert {name.split(":")[0] for name in names} == {CPU.name, GPU.name}


def test_bencher_takes_one_machine_and_does_not_name_it():
    with pytest.raises(UserError, match=rf"2 machines \({CPU.name}, {GPU.name}\)"):
        export(only(sweep("here.json"), sweep("there.json", machine=GPU)), "bencher")
    assert CPU.name not in export(only(sweep()), "bencher")


@pytest.mark.parametrize("kind", sorted(EXPORTS))
def test_nothing_to_export_is_said(kind):
    nothing = StoredResults(refused=(Refused(Path("foreign.json"), "JSON of another kind"),))
    for empty in (nothing, only(replace(sweep(), measurements=()))):
        with pytest.raises(UserError, match="nothing to export"):
            export(empty, kind)
    with pytest.raises(UserError, match="1 could not be read"):
        export(nothing, kind)
