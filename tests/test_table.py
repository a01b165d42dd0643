"""The table: rows by device and batch size, gaps where a sweep was interrupted, and what limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mnist_loop.measure import table
from mnist_loop.measure.table import as_markdown, as_rich, footnotes, limit, rows, short


def benchmark(part, batch_size=64, median=1000.0, device="cpu", **more):
    rate = {"median": median, "q1": 0.95 * median, "q3": 1.05 * median}
    info = {"part": part, "batch_size": batch_size, "device": device, "images_per_second": rate, **more}
    return {"name": part, "extra_info": info}


def document(*benchmarks, devices=("cpu",)):
    facts = {
        "identity": {"cpu": "A CPU", "logical_cores": 2, "gpus": [{"name": "A GPU"}]},
        "software": {"torch": "2.15.0", "python": "3.11.7"},
        "data": "Digits",
        "threads": 2,
        "devices": list(devices),
    }
    return {"benchmarks": list(benchmarks), "mnist_loop": facts}


def printed(thing, width=120):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123  # console's
    with console.file:
        console.print(thing)
        return console.export_text()


def test_a_row_has_the_parts_side_by_side():
    """Each batch size is a row in rising order, each part a column, with the interquartile range in per cent."""
    found = rows(
        document(
            benchmark("step", 256, 90_000.0),
            benchmark("step", 64, 50_000.0, peak_memory_mib=3.2),
            benchmark("input pipeline", 64, 10_000.0, peak_memory_mib=1.0),
            benchmark("end to end", 64, 8_000.0, peak_memory_mib=None),
            benchmark("evaluation", 64, 200_000.0),
        )
    )
    assert [row.batch_size for row in found] == [64, 256]
    assert found[0].cells == ("10k [10%]", "50k [10%]", "8k [10%]", "200k [10%]")
    assert (found[0].memory, found[0].limit) == ("3 MiB", "input 83%")
    assert (found[1].cells, found[1].memory, found[1].limit) == (("-", "90k [10%]", "-", "-"), "-", "")


@given(pipeline=st.floats(1.0, 1e9), step=st.floats(1.0, 1e9))
def test_the_slower_part_limits(pipeline, step):
    """What limits is the part that takes the larger share of the time, and its share is at least a half."""
    parts = {
        name: {"images_per_second": {"median": rate}} for name, rate in (("input pipeline", pipeline), ("step", step))
    }
    name, share = limit(parts).split()
    assert name == ("input" if pipeline < step else "step") or pipeline == step
    assert 50 <= int(share.rstrip("%")) <= 100


def test_the_caption_says_machine_software_and_data():
    """Nobody has to ask where a table was measured; the brackets of the units are not taken for markup."""
    text = printed(as_rich(document(benchmark("step"))))
    for fact in ("A CPU", "2 logical cores", "CPU threads: 2", "torch 2.15.0", "Python 3.11.7", "data: Digits"):
        assert fact in text
    assert "[interquartile range" in text
    assert "A GPU" not in text, "a GPU that was not used is no part of the result"


def test_a_second_device_has_a_column_and_its_name():
    """With CPU and CUDA in one sweep each row says its device, and the caption names the GPU."""
    both = document(benchmark("step"), benchmark("step", device="cuda"), devices=("cpu", "cuda"))
    text = printed(as_rich(both))
    assert "device" in text
    assert "cuda" in text
    assert "A GPU" in text


def test_markdown_has_the_same_cells():
    """The README's table is the terminal's, in Markdown."""
    text = as_markdown(document(benchmark("step", 64, 50_000.0), benchmark("input pipeline", 64, 10_000.0)))
    lines = text.splitlines()
    assert lines[0].startswith("| device | batch size | input pipeline | step | end to end | evaluation |")
    assert "| cpu | 64 | 10k [10%] | 50k [10%] | - | - | - | input 83% |" in lines
    assert lines[-1].startswith("*A CPU, 2 logical cores")
    assert all(line.count("|") == lines[0].count("|") for line in lines[:3])


def test_a_noisy_machine_is_told():
    """A spread of more than a quarter means that the numbers are of another program too."""
    quiet, noisy = benchmark("step"), benchmark("evaluation")
    noisy["extra_info"]["images_per_second"] = {"median": 1000.0, "q1": 700.0, "q3": 1000.0}
    assert footnotes(document(quiet)) == []
    (note,) = footnotes(document(quiet, noisy))
    assert note.startswith("1 of 2 benchmarks have an interquartile range above 25%: something else used the machine")


def test_time_to_accuracy_is_told_beneath():
    """It has no batch sizes and so no row."""
    info = {"part": "time to accuracy", "device": "cpu", "batch_size": 64, "accuracy": 0.921, "epochs": 4}
    info |= {"training_s": 30.06, "evaluation_s": 4.0}
    shown = document({"name": "t", "extra_info": info})
    assert footnotes(shown) == ["cpu: 92.1% test accuracy after 4 epochs: 30.1 s of training, 4.0 s of evaluation"]
    assert rows(shown) == []


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.5, "0.5"), (987.0, "987"), (999.4, "999"), (999.6, "1k"), (12_345.0, "12.3k"), (7.891e6, "7.89M"), (2e9, "2G")],
)
def test_rates_have_three_digits(rate, text):
    """A rate is written with three digits and its unit."""
    assert short(rate) == text


def test_parts_are_those_that_are_measured():
    """The columns are the parts of the workloads, no more and no less."""
    from mnist_loop.measure.workloads import EndToEnd, Evaluation, InputPipeline, Step

    parts = tuple(kind.part for kind in (InputPipeline, Step, EndToEnd, Evaluation))
    assert parts == table.PARTS
