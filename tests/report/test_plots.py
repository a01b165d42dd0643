"""The plots: their titles say what the data say, and nothing that a file holds can break them."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from mnist_loop.report.plots import figures, save
from mnist_loop.report.plots.comparison_findings import comparison_finding
from mnist_loop.report.plots.configurations import names, subjects
from mnist_loop.report.plots.files import Styles, inline, svg
from mnist_loop.report.plots.ink import ROLES, drawing
from mnist_loop.report.plots.labels import move_apart
from mnist_loop.report.plots.ratios import ratio_ticks
from mnist_loop.report.plots.sweep_findings import limit_finding
from mnist_loop.report.plots.words import faster_by, file_name, join_words, shorten, slower_by
from mnist_loop.report.stored import ArmResult, Machine, Pair, Setting, StoredResults
from mnist_loop.statistics.ratio import Ratio
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from tests.results_maker import GPU, cell, comparison, measurement, results, sweep

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def drawn():
    """All plots of a report with something of everything."""
    return figures(results())


def of(comparisons=(), sweeps=()):
    return figures(StoredResults(tuple(sweeps), tuple(comparisons)))


def texts(plot):
    """All words in a figure, title and labels."""
    return [text.get_text() for text in plot.figure.findobj(Text) if text.get_text()]


def overlaps(plot):
    """Pairs of words in a figure that cover one another, or that leave it."""
    canvas = FigureCanvasAgg(plot.figure)
    with drawing():
        canvas.draw()
    renderer = canvas.get_renderer()
    whole = plot.figure.bbox
    shown = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in plot.figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and not _unseen_tick(text)
    ]
    clipped = [
        name
        for name, box in shown
        if box.x0 < whole.x0 - 1 or box.x1 > whole.x1 + 1 or box.y0 < whole.y0 - 1 or box.y1 > whole.y1 + 1
    ]
    # A line's box has its descenders and the room above small letters: a quarter of it may lie over the next one's.
    inner = [(name, box.x0, box.x1, box.y0 + box.height / 8, box.y1 - box.height / 8) for name, box in shown]
    return clipped + [
        (one[0], other[0])
        for number, one in enumerate(inner)
        for other in inner[:number]
        if one[1] < other[2] and other[1] < one[2] and one[3] < other[4] and other[3] < one[4]
    ]


def _unseen_tick(text):
    """Whether this is the label of a tick that is not drawn: outside the limits, or of an axis without labels."""
    for axes in text.figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            for tick in [*axis.majorTicks, *axis.minorTicks]:
                if text in (tick.label1, tick.label2):
                    low, high = sorted(axis.get_view_interval())
                    return not (low <= tick.get_loc() <= high and text.get_visible())
    return False


def test_titles_say_the_verdict():
    """Which arm, by how much, at which batch size; where nothing is told, that."""
    one = {
        SpeedVerdict.SLOWER: (1.031, "torch215 is 3.1% slower than torch214 at batch 64"),
        SpeedVerdict.FASTER: (0.931, "torch215 is 6.9% faster than torch214 at batch 64"),
        SpeedVerdict.SAME: (1.001, "torch215 is as fast as torch214 at batch 64, within 1%"),
        SpeedVerdict.INCONCLUSIVE: (1.02, "No difference can be told between torch215 and torch214 at batch 64"),
    }
    for verdict, (estimate, said) in one.items():
        found = comparison(cells=(cell(64, estimate=estimate, verdict=verdict),))
        assert comparison_finding(found) == said
        assert of([found])[0].finding == comparison_finding(found)


def test_a_title_of_several_batch_sizes_names_each_verdict():
    """One of each, and those that agree in one phrase."""
    said = comparison_finding(comparison())
    assert said == (
        "torch215 is 5% slower than torch214 at batch 16, 7% faster at batch 64, as fast at batch 256; "
        "undecided at batch 1024"
    )
    slow = comparison(cells=(cell(16, estimate=1.02), cell(64, estimate=3.0)))
    assert comparison_finding(slow) == "torch215 is up to 3 times as slow as torch214 at all 2 batch sizes"
    nothing = replace(comparison(), cells=())
    assert comparison_finding(nothing) == "Nothing can be said of torch215 yet: no round was finished"
    assert of([nothing]) == []


def test_what_limits_training_is_said_only_where_the_intervals_are_apart():
    """Input pipeline, step, a mixture, or neither."""

    def parts(*medians):
        made = {"input pipeline": [], "step": []}
        for size, (pipeline, step) in zip((16, 64), medians, strict=False):
            for part, median in (("input pipeline", pipeline), ("step", step)):
                found = measurement(part, size)
                made[part].append(replace(found, median=median, low=0.9 * median, high=1.1 * median))
        return made

    said = "The input pipeline limits training at every batch size: it delivers 10k images/s at most, "
    assert limit_finding(parts((1e4, 1e5), (1e4, 2e5))) == f"{said}the step could take 200k"
    assert limit_finding(parts((1e5, 1e4), (1e5, 2e4))).startswith("The step limits training at every batch size")
    assert limit_finding(parts((1e5, 1e4), (1e4, 1e5))) == (
        "What limits training: the input pipeline at batch 64, the step at batch 16"
    )
    assert limit_finding(parts((1e4, 1.1e4))) == "Input pipeline and step are about equally fast at batch 16"
    assert limit_finding({"step": parts((1, 2e4))["step"]}) == "The step reaches 20k images/s at batch 16"


@given(st.floats(min_value=0))
def test_no_ratio_breaks_the_words(value):
    """Whatever is in a file can be said."""
    assert "slow" in slower_by(value) if value >= 1 else "fast" in faster_by(value)


@given(st.text(max_size=300))
def test_names_are_one_short_line(text):
    """No control character, no line end, no more than fits; and a file name that every system takes."""
    shown = shorten(text)
    assert len(shown) <= 44
    assert not any(letter.isspace() and letter != " " for letter in shown)
    assert file_name(text).replace("-", "").isalnum()
    assert join_words([text, "b"]).endswith(" and b")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.001, 0.2))
def test_labels_are_moved_apart_in_order_and_stay_inside(wanted, gap):
    """Each keeps its place in the order and its distance, as far as there is room."""
    places = move_apart(sorted(wanted), gap, 0.0, 1.0)
    fits = min(gap, 1 / max(1, len(wanted) - 1))
    assert all(after - before >= fits - 1e-9 for before, after in pairwise(places))
    assert min(places) >= -1e-9
    assert max(places) <= 1 + 1e-9


@given(st.floats(-2.5, -1e-5), st.floats(1e-5, 2.5))
def test_an_axis_of_ratios_has_ticks_and_one_is_no_difference(low, high):
    """Never more than fit, always one at 1."""
    marks = ratio_ticks(low, high)
    assert 1 <= len(marks) <= 13
    assert any(abs(place) < 1e-12 for place, _ in marks)
    assert len({label for _, label in marks}) == len(marks)


def test_every_plot_has_words_for_those_who_do_not_see_it(drawn):
    """Name, finding, reading and alternative text; the names differ; units are on the axes."""
    assert len({plot.name for plot in drawn}) == len(drawn) >= 10
    for plot in drawn:
        assert plot.alt.count(".") >= 2
        assert plot.finding in plot.alt.replace("  ", " ")
        assert " ".join(texts(plot)).replace("\n", " ").count(plot.finding.split()[0])
        assert any("images" in text or "time" in text or "seconds" in text for text in texts(plot))


def test_no_word_covers_another(drawn):
    """Titles, ticks, direct labels and figures of all plots lie apart and inside the sheet."""
    for plot in drawn:
        assert overlaps(plot) == [], plot.name


def many(number):
    """As many configurations of one workload, all close together."""
    return [
        sweep(f"{n}.json", torch=f"2.{n}.0", speed=1 + n / 1000, when=f"2026-01-01T00:00:{n:02}") for n in range(number)
    ]


def absurd():
    """Results that are legal, and that no plot was drawn for."""
    tiny, huge = Ratio(1e-300, 0.0, 1e-299, 0.95, 1.0, 1, 1), Ratio(1e300, 1e299, math.inf, 0.95, 1.0, 1, 1)
    far = replace(cell(16), ratio=tiny, verdict=SpeedVerdict.FASTER, pairs=(Pair(0.0, 0, -690.0),), control_pairs=())
    near = replace(cell(64), ratio=huge, pairs=(Pair(1.0, 0, 690.0), Pair(2.0, 0, math.nan)))
    lonely = replace(cell(64), control=None, control_pairs=())
    long = comparison(labels=("x" * 300, HOSTILE), cells=(cell(2**40),))
    arms = tuple(ArmResult(f"arm {n}") for n in range(60))
    crowd = replace(comparison(), arms=arms, cells=tuple(cell(64, arm=n, estimate=1 + n / 100) for n in range(1, 60)))
    extreme = replace(sweep(), measurements=tuple(
        replace(measurement("step", size), median=median, low=median / 2, high=median)
        for size, median in ((1, 1e-300), (2, 1e300), (3, math.inf), (4, 5.0))
    ))  # fmt: skip
    return {
        "ratios": StoredResults(comparisons=(comparison(cells=(far, near)),)),
        "one round": StoredResults(comparisons=(comparison(cells=(replace(cell(64), pairs=(Pair(0.0, 0, 0.01),)),)),)),
        "no control": StoredResults(comparisons=(comparison(cells=(lonely,)),)),
        "long names": StoredResults(comparisons=(long,)),
        "sixty arms": StoredResults(comparisons=(crowd,)),
        "sixty sweeps": StoredResults(tuple(many(60))),
        "one batch size": StoredResults((sweep(batch_sizes=(64,)), sweep("b", torch="2.4.0", batch_sizes=(64,)))),
        "extreme rates": StoredResults((extreme,)),
        "no measurement": StoredResults((replace(sweep(), measurements=()),)),
        "many sizes": StoredResults(tuple(sweep(str(n), torch=f"2.{n}", batch_sizes=range(1, 60)) for n in range(2))),
        "hostile": StoredResults((sweep(torch="$\\frac{$" + HOSTILE + "\x00\ud800\U0001f600\u6f22", data=HOSTILE),)),
    }


@pytest.mark.parametrize("name", absurd())
def test_absurd_results_are_drawn_all_the_same(name):
    """No error, no word over another, no sheet of absurd size, in PNG and in SVG."""
    for plot in figures(absurd()[name]):
        width, height = plot.figure.get_size_inches()
        assert width < 20
        assert height < 20
        assert overlaps(plot) == [], plot.name
        assert inline(plot, Styles()).startswith("<svg")


def test_files_are_written_and_are_the_same_each_time(tmp_path):
    """Two of each plot; an SVG holds no date, so that it can be committed. Another process writes the same."""
    found = StoredResults(comparisons=(comparison(cells=(cell(),)),))
    files = save(found, tmp_path / "a")
    assert {file.suffix for file in files} == {".png", ".svg"}
    code = (
        "import sys; from pathlib import Path; from tests.results_maker import *;"
        "from mnist_loop.report.plots import save;"
        "save(StoredResults(comparisons=(comparison(cells=(cell(),)),)), Path(sys.argv[1]))"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], check=True, cwd=root)
    for file in files:
        if file.suffix == ".svg":
            assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
            assert b"<dc:date>" not in file.read_bytes()


def test_drawing_leaves_the_style_as_it_was():
    """A notebook that shows a report keeps its own look, and pyplot is not loaded for it."""
    mpl.rcParams["lines.linewidth"] = 7.25
    try:
        before = dict(mpl.rcParams)
        svg(of([comparison()])[0])
        assert dict(mpl.rcParams) == before
    finally:
        mpl.rcParams["lines.linewidth"] = mpl.rcParamsDefault["lines.linewidth"]
    code = (
        "import sys, mnist_loop.report.plots as p; assert 'matplotlib' not in sys.modules;"
        "from tests.results_maker import *; p.figures(StoredResults((), (comparison(cells=(cell(),)),)));"
        "assert 'matplotlib.pyplot' not in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_inside_the_page_colours_are_roles_and_names_are_its_own():
    """No style attribute, no fixed colour of a role, no title twice, no name that two plots share."""
    styles, plots = Styles(), figures(StoredResults((sweep(),), (comparison(cells=(cell(16), cell(64))),)))
    pictures = [inline(plot, styles) for plot in plots]
    whole = "".join(pictures)
    assert "style=" not in whole
    assert not any(colour in whole + styles.sheet() for colour in ROLES)
    assert "var(--ink)" in styles.sheet()
    ids = [part.partition('"')[0] for part in whole.split(' id="')[1:]]
    assert ids
    assert len(ids) == len(set(ids))
    for plot, picture in zip(plots, pictures, strict=True):
        assert f">{plot.finding.split(' at batch')[0]}" not in picture


def test_undecided_cells_are_hatched():
    """In the heat map an arm of which nothing can be said looks like it."""
    cells = [cell(64, arm=1, verdict=SpeedVerdict.INCONCLUSIVE), cell(64, arm=2, estimate=1.1)]
    found = comparison(labels=("a", "b", "c"), cells=tuple(cells))
    heat = next(plot for plot in of([found]) if plot.name.startswith("speed-up"))
    patches = [one for one in heat.figure.axes[0].patches if one.get_width() < 1]
    assert [bool(one.get_hatch()) for one in patches] == [True, False]


def test_different_machines_show_their_rulers():
    """Without them a ratio of two machines says nothing."""
    plots = of(sweeps=[sweep(), sweep("gpu.json", machine=GPU, device="cuda", speed=8.0)])
    heat = next(plot for plot in plots if plot.name.startswith("speed-up"))
    assert "150 GFLOP/s" in heat.reading
    curves = next(plot for plot in plots if plot.name.startswith("throughput-step"))
    assert any("ceiling" in text for text in texts(curves))
    bare = of(sweeps=[sweep(ruler=False), sweep("b.json", torch="2.4.0", ruler=False)])
    assert not any("ceiling" in text for plot in bare for text in texts(plot))


def test_configurations_are_named_by_what_differs():
    """Torch always; device, threads, machine, build only where they tell two apart."""
    one, other = sweep("a"), sweep("b", torch="2.4.1+cu121")
    assert names(next(iter(subjects([one, other]).values()))) == ["torch 2.4.1", "torch 2.15.0"]
    twins = [sweep("a", torch="2.4.1+cpu"), sweep("b", torch="2.4.1+cu121")]
    assert names(next(iter(subjects(twins).values()))) == ["torch 2.4.1+cpu", "torch 2.4.1+cu121"]
    apart = [sweep("a"), sweep("b", machine=Machine("other"))]
    assert names(next(iter(subjects(apart).values()))) == [
        "torch 2.15.0 \N{MIDDLE DOT} a-cpu-2cpu-1a2b3c",
        "torch 2.15.0 \N{MIDDLE DOT} other",
    ]
    threads = replace(one, measurements=tuple(replace(m, setting=Setting("cpu", 1)) for m in one.measurements))
    assert [name[-9:] for name in names(next(iter(subjects([one, threads]).values())))] == ["2 threads", " 1 thread"]
