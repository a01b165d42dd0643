"""Tables of results: one sweep, sweeps beside each other, comparisons; for a terminal, Markdown and CSV."""

import csv
import io
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_loop.report.stored import ArmResult, Measurement, Setting, StoredResults, WorkloadId
from mnist_loop.report.tables import MOST_SWEEPS, report_tables, sweep_tables
from mnist_loop.report.tables import tidy as tidy_module
from mnist_loop.report.tables.csv_text import to_csv
from mnist_loop.report.tables.markdown import to_markdown
from mnist_loop.report.tables.paired import arm_step_time_table, verdict_table, warm_up_table
from mnist_loop.report.tables.table import Column, Table, text_of
from mnist_loop.report.tables.terminal import STYLES, to_terminal
from mnist_loop.report.tables.throughput import limit, notes, throughput_table
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from tests import results_maker as made


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def plain(*shown):
    return to_terminal(shown, io.StringIO())


def column(table, heading):
    place = [found.heading for found in table.columns].index(heading)
    return [text_of(row[place]) for row in table.rows]


def of(part, median, batch_size=64, spread=0.1, **more):
    rates = (median,) * 6
    workload, setting = WorkloadId(part, batch_size, "Digits"), Setting("cpu", 2)
    return Measurement(
        workload, setting, rates, median, median * (1 - spread / 2), median * (1 + spread / 2), median, median, **more
    )


def sweep_of(*measurements):
    return replace(made.sweep(), measurements=measurements, planned=None)


# One sweep


def test_a_row_has_the_parts_side_by_side():
    """Each batch size is a row in rising order, each part a column, with the interquartile range in per cent."""
    table = throughput_table(
        sweep_of(
            of("step", 90_000.0, 256),
            of("step", 50_000.0, memory_mib=3.2),
            of("input pipeline", 10_000.0, memory_mib=1.0),
            of("end to end", 8_000.0),
            of("evaluation", 200_000.0),
        )
    )
    first, second = (tuple(map(text_of, row)) for row in table.rows)
    assert first == ("cpu", "64", "10k [10%]", "50k [10%]", "8k [10%]", "200k [10%]", "3 MiB", "input 83%")
    assert second == ("cpu", "256", "-", "90k [10%]", "-", "-", "-", "")


def test_a_part_of_another_suite_has_a_column_of_its_own():
    """Nothing that was measured is left out."""
    table = throughput_table(sweep_of(of("step", 1.0), of("compilation", 5.0)))
    assert column(table, "compilation") == ["5 [10%]"]


@given(pipeline=st.floats(1.0, 1e9), step=st.floats(1.0, 1e9))
def test_the_slower_part_limits(pipeline, step):
    """What limits is the part that takes the larger share of the time, and its share is at least a half."""
    name, share = limit({"input pipeline": of("input pipeline", pipeline), "step": of("step", step)}).split()
    assert name == ("input" if pipeline < step else "step") or pipeline == step
    assert 50 <= int(share.rstrip("%")) <= 100


def test_the_caption_says_machine_software_and_data():
    """Nobody has to ask where a table was measured; a GPU that was not used is no part of it."""
    text = plain(throughput_table(made.sweep(machine=replace(made.GPU, cpu="A CPU"))))
    for fact in ("A CPU", "16 logical cores", "CPU threads: 2", "torch 2.15.0", "Python 3.12.1", "data: Digits"):
        assert fact in text
    assert "A GPU" not in text
    assert "A GPU" in plain(throughput_table(made.sweep(machine=made.GPU, device="cuda:0")))


def test_what_else_there_is_to_say_of_a_sweep():
    """A noisy machine, a sweep that was cut short, and how long the lesson took to learn."""
    quiet = sweep_of(of("step", 1.0, spread=0.25))
    assert notes(quiet) == []
    noisy = replace(sweep_of(of("step", 1.0, spread=0.26), of("evaluation", 1.0)), planned=20)
    first, second = notes(noisy)
    assert first.startswith("1 of 2 benchmarks have an interquartile range above 25%: something else used the machine")
    assert second == "incomplete: 2 of 20 benchmarks were measured"
    (learned,) = notes(made.results().sweeps[0])[:1]
    assert learned == "cpu: 92.1% test accuracy after 4 epochs: 30.1 s of training, 4 s of evaluation"


def test_hundreds_of_sweeps_have_no_tables_of_their_own():
    """Where they are left out, that is said, and how to see all; side by side they are there."""
    sweeps = [made.sweep(f"{n}.json", batch_sizes=(16,), seed=n) for n in range(MOST_SWEEPS + 1)]
    text = plain(*report_tables(StoredResults(tuple(sweeps))))
    assert "51 sweeps" in text
    assert "--format csv" in text
    assert "51 runs of a-cpu-2cpu-1a2b3c" in text
    assert "0.json" in plain(*report_tables(StoredResults(tuple(sweeps[:-1]))))


# Side by side


def test_no_difference_can_be_told_is_an_answer():
    """Two single runs have a ratio, that verdict, and one sentence of advice."""
    sweeps = (made.sweep("a.json", torch="2.4"), made.sweep("b.json", torch="2.15", speed=1.1))
    table = next(table for table in report_tables(StoredResults(sweeps)) if table.title == "Compared with torch 2.4")
    assert set(column(table, "verdict")) == {"the first", "no difference can be told"}
    assert [ratio for ratio in column(table, "time ratio") if ratio != "-"]
    assert len(table.notes) == 1


def test_machines_are_compared_with_their_rulers_shown():
    """With both rulers there are their figures, the shares and a ratio; without one a sentence, and no ratio."""
    cpu, gpu = made.sweep("a.json"), made.sweep("b.json", machine=made.GPU, device="cuda")
    text = plain(*report_tables(StoredResults((cpu, gpu))))
    for shown in (
        "ruler: matrix products",
        "150 GFLOP/s",
        "12 GB/s",
        "4 µs",
        "of matrix products",
        "Compared with cpu",
    ):
        assert shown in text
    blind = replace(gpu, ruler={})
    *_, table = report_tables(StoredResults((cpu, blind)))
    assert set(column(table, "time ratio")) == {"-"}
    assert "there is no ruler of cuda" in "".join(table.notes)
    assert "not measured" in plain(*report_tables(StoredResults((cpu, blind))))


def test_many_results_are_laid_on_their_side():
    """More columns than a screen has room for become rows."""
    many = [made.sweep(f"{n}.json", torch=f"2.{n}", batch_sizes=(16,)) for n in range(9)]
    table = next(table for table in report_tables(StoredResults(tuple(many))) if table.title == "What differs")
    assert len(table.rows) == 9
    assert column(table, "torch") == [f"2.{n}" for n in range(9)]


# Comparisons


def test_a_comparison_has_a_row_for_each_arm_and_batch_size():
    """The first arm, then the others, with ratio, interval, verdict, what could have been seen, and the control."""
    comparison = made.comparison()
    table = verdict_table(comparison)
    assert column(table, "arm") == ["torch214", "torch215"] * 4
    assert column(table, "verdict")[1::2] == ["SLOWER", "FASTER", "SAME", "INCONCLUSIVE"]
    assert column(table, "time ratio")[:2] == ["1", "1.050 [1.040, 1.060]"]
    assert column(table, "smallest visible change")[1] == "1.5%"
    assert column(table, "control")[1].startswith("1.00")
    assert "margin 1%" in table.caption
    assert "intervals at 95%" in table.caption
    assert len(table.notes) == 5
    assert table.notes[0].startswith("torch215 at batch size 16: SLOWER: 1.050 times")
    assert table.notes[-1] == "It ended when all verdicts were certain, after 60 s of measuring."


def test_the_line_says_dispatch_or_arithmetic():
    """An arm whose every step takes 5 % longer has a longer dispatch and a slower arithmetic."""
    cells = tuple(made.cell(size, half_width=0.002) for size in made.BATCH_SIZES)
    table = arm_step_time_table(made.comparison(cells=cells))
    assert column(table, "arm") == ["torch214", "torch215"], "the control has no line"
    assert column(table, "dispatch t0") == ["400 µs", "420 µs"]
    assert column(table, "arithmetic r") == ["450k images/s", "429k images/s"]
    assert table.notes == ("torch215: dispatch is longer and arithmetic is slower.",)
    same = tuple(made.cell(size, estimate=1.0) for size in made.BATCH_SIZES)
    (note,) = arm_step_time_table(made.comparison(cells=same)).notes
    assert "no change of dispatch or arithmetic can be told" in note


def test_a_sweep_has_a_line_for_each_part():
    """Where there are three batch sizes, or more; t0 and r are those that its rates were made of."""
    made = [of("compiled epoch", size / (200e-6 + size / 400e3), size) for size in (16, 64, 256, 1024)]
    sweep = sweep_of(*made, of("step", 90_000.0, 256))
    _, table = sweep_tables(sweep)
    assert tuple(map(text_of, table.rows[0][:3])) == ("cpu", "compiled epoch", "200 µs")
    assert column(table, "arithmetic r") == ["400k images/s"]
    assert column(table, "half of r at batch") == ["80"]
    assert len(list(sweep_tables(sweep_of(*made[:2])))) == 1


def test_what_was_steady_at_once_is_told_so():
    """As a time of 0 s."""
    found = made.comparison()
    first = replace(found.arms[0], warm_up_s={64: 0.0}, first_step_s={64: 0.5})
    other = replace(found.arms[1], warm_up_s={64: 0.25}, first_step_s={64: 0.5})
    table = warm_up_table(replace(found, arms=(first, other, *found.arms[2:])))
    assert column(table, "until steady")[:2] == ["0 s", "250 ms"]


def test_a_comparison_without_cells_says_so():
    """A run that was killed at once."""
    empty = replace(
        made.comparison(), cells=(), ended="killed", facts={"measured in fewer than two restarts": "b at 64"}
    )
    text = plain(*report_tables(StoredResults(comparisons=(empty,))))
    assert "measured in fewer than two restarts: b at 64" in text
    assert "It ended: killed" in text


# Terminal, Markdown, CSV

STRANGER = "<script>[b]x[/b] | `a` *b* [c](http://d) \\ &amp;"
HOSTILE = Table(STRANGER, (Column(STRANGER, numbers=False),), [(STRANGER,)], STRANGER, (STRANGER,))


def test_a_terminal_shows_strangers_text_as_it_is():
    """Brackets are no markup, in colour or not."""
    assert plain(HOSTILE).count(STRANGER) == 5
    shown = re.sub(r"\x1b\[[0-9;]*m", "", to_terminal([HOSTILE], Screen()))
    assert shown.count("[b]x[/b]") == 5


def test_colour_is_for_terminals_alone():
    """A file has no escape sequences; a terminal shows a red verdict in red."""
    table = verdict_table(made.comparison())
    assert "\x1b" not in plain(table)
    assert "\x1b[1;31mSLOWER" in to_terminal([table], Screen())
    assert set(STYLES) == {verdict.value for verdict in SpeedVerdict}


def test_markdown_takes_a_strangers_text_for_text():
    """No tag, no cell's end, no code, no emphasis, no link."""
    text = to_markdown([HOSTILE])
    assert "<script" not in text
    assert "](" not in text.replace(r"\](", "")
    assert not re.search(r"(?<!\\)[`]", text)
    row = next(line for line in text.splitlines() if line.startswith("| &lt;"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 2


def test_markdown_has_every_table():
    """With its title, and as many cells in each row as there are columns."""
    found = list(report_tables(made.results()))
    text = to_markdown(found)
    for table in found:
        assert table.title.replace("_", r"\_") in text or table.title in text
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(blocks) == len(found)
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}) == 1


def csv_rows(results):
    return list(csv.DictReader(io.StringIO(to_csv(tidy_module.tidy(results)))))


def test_the_csv_has_every_measurement_and_every_cell():
    """One row each, numbers to the last digit."""
    results = made.results()
    rows = csv_rows(results)
    by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in ("measurement", "accuracy", "cell")}
    assert len(by_kind["measurement"]) == sum(len(sweep.measurements) for sweep in results.sweeps)
    assert len(by_kind["cell"]) == sum(len(found.cells) for found in results.comparisons)
    assert len(by_kind["accuracy"]) == 1
    assert sum(map(len, by_kind.values())) == len(rows)
    first, found = by_kind["measurement"][0], results.sweeps[0].measurements[0]
    assert float(first["images_per_s"]) == found.median
    assert (first["torch"], first["part"], first["batch_size"], first["rounds"]) == (
        "2.4.1",
        "input pipeline",
        "16",
        "12",
    )
    cell = results.comparisons[0].cells[0]
    row = by_kind["cell"][0]
    assert (float(row["time_ratio"]), float(row["ratio_low"]), row["verdict"]) == (
        cell.ratio.estimate,
        cell.ratio.low,
        "SLOWER",
    )
    assert (row["arm"], row["base"], row["torch"], row["device"]) == ("torch215", "torch214", "2.15.0", "cpu")
    assert float(row["control_ratio"]) == cell.control.estimate


def test_the_csvs_columns_are_documented():
    """Each column is in the table of the module's docstring."""
    documented = re.findall(r"^\| ([a-z_0-9, ]+) \|", tidy_module.__doc__, re.MULTILINE)[1:]
    assert {name for names in documented for name in names.split(", ")} == set(tidy_module.COLUMNS)


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "|calc", "%x", "\uff1d1", " =1", "'=1", '"=1'])
def test_no_text_is_a_formula(start):
    """A label that a spreadsheet would run has an apostrophe before it; numbers stay numbers."""
    comparison = made.comparison()
    arms = (comparison.arms[0], ArmResult(start, {"torch": start}), comparison.arms[2])
    row = csv_rows(StoredResults(comparisons=(replace(comparison, arms=arms),)))[0]
    for cell in (row["arm"], row["torch"]):
        assert cell == start if start[0] in "'\"" else cell == f"'{start}"
    assert float(row["time_ratio"]) == comparison.cells[0].ratio.estimate
