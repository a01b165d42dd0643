"""The page: verdict first, whole without anything beside it, and deaf to what strangers wrote into a file."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from mnist_loop.report.page import to_html
from mnist_loop.report.page.headline import headline
from mnist_loop.report.plots import figures
from mnist_loop.report.plots.files import LONGEST_ALT
from mnist_loop.report.plots.ink import ROLES
from mnist_loop.report.plots.words import shorten
from mnist_loop.report.stored import ArmResult, Machine, Refused, StoredResults, WorkloadId
from mnist_loop.report.tables.paired import comparison_tables
from mnist_loop.report.tables.table import text_of
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from tests.results_maker import cell, comparison, results, sweep

HOSTILE = "</script><img src=x onerror=alert(1)>"
VOID = {"meta", "link", "img", "br", "input", "hr", "source"}


class Reader(HTMLParser):
    """Elements with their attributes, in order, and the text of each; checks that what is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag):
        return [data for name, data in self.texts if name == tag]


def small():
    """One cell and one sweep, enough for most of the page and quickly drawn."""
    return StoredResults((sweep(batch_sizes=(16, 64)),), (comparison(cells=(cell(64, estimate=1.031),)),), refused())


def refused():
    return (Refused(Path("foreign.json"), "JSON of another kind: expected a result that mnist-loop stored"),)


@pytest.fixture(scope="module")
def page():
    return to_html(small())


@pytest.fixture(scope="module")
def whole():
    """A page with something of everything, and the names of its plots."""
    return to_html(results()), figures(results())


def hostile():
    """Results in which every text is hostile."""
    bad = Machine(HOSTILE, HOSTILE, HOSTILE, 2, 24, HOSTILE, (HOSTILE,))
    work = WorkloadId(HOSTILE, 64, HOSTILE, HOSTILE)
    arms = tuple(
        ArmResult(HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}, control=control) for control in (False, False, True)
    )
    one = replace(
        comparison(),
        file=Path(HOSTILE),
        when=HOSTILE,
        machine=bad,
        arms=arms,
        cells=(replace(cell(64), workload=work, reason=HOSTILE),),
        ended=HOSTILE,
        facts={HOSTILE: HOSTILE},
    )
    made = sweep()
    measurements = tuple(
        replace(found, workload=replace(found.workload, data=HOSTILE, model=HOSTILE)) for found in made.measurements
    )
    stored = replace(
        made,
        file=Path(HOSTILE),
        machine=bad,
        software={"torch": HOSTILE, HOSTILE: HOSTILE},
        measurements=measurements,
        facts={HOSTILE: HOSTILE},
    )
    return StoredResults((stored,), (one,), (Refused(Path(HOSTILE), HOSTILE),))


def test_the_verdict_comes_first(page):
    """The only first heading is the finding, and the title of the window says the same."""
    reader = Reader(page)
    said = "torch215 is 3.1% slower than torch214 at batch 64."
    assert reader.text("h1") == [said]
    assert reader.text("title") == [said]
    assert len(reader.all("h1")) == 1


def test_headings_go_down_one_level_at_a_time(whole):
    levels = [int(tag[1]) for tag, _ in Reader(whole[0]).elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_what_can_be_said_of_nothing_is_said():
    """No result, only refused ones, a sweep without a measurement."""
    assert headline(StoredResults()).first == "There is nothing to report."
    assert headline(StoredResults(refused=refused())).first == "Nothing could be reported: 1 file refused."
    assert headline(StoredResults((replace(sweep(), measurements=()),))).first == "Nothing was measured in these files."
    for found in (StoredResults(), StoredResults(refused=refused())):
        Reader(to_html(found))


def test_each_verdict_is_counted():
    assert headline(results()).counts == [
        (SpeedVerdict.SLOWER, 5),
        (SpeedVerdict.FASTER, 5),
        (SpeedVerdict.SAME, 1),
        (SpeedVerdict.INCONCLUSIVE, 1),
    ]
    assert headline(results()).about == "2 paired comparisons, 3 stored sweeps, 1 file refused"


def test_the_page_needs_nothing_else(whole):
    """No element loads anything; the policy allows this style sheet and this script by their hashes, and no more."""
    page = whole[0]
    reader = Reader(page)
    for tag, attributes in reader.elements:
        assert tag not in {"iframe", "object", "embed", "base", "form", "image"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "style"
            if name in {"src", "href", "xlink:href", "srcset", "data", "action"}:
                assert value is not None
                assert value.startswith("#") or value == "data:,", (tag, name, value)
    assert not re.search(r"@import|url\((?!#)", page)
    policy = next(one["content"] for one in reader.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for tag in ("style", "script"):
        contents = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)
        assert len(contents) == len(reader.all(tag)) == 1
        digest = base64.b64encode(hashlib.sha256(contents[0].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_every_plot_is_there_with_its_words(whole):
    """Finding as heading, reading beneath, alternative text on the picture."""
    page, plots = whole
    reader = Reader(page)
    pictures = [one for one in reader.all("svg") if one.get("role") == "img"]
    assert len(pictures) == len(plots)
    assert sorted(str(one["aria-label"]) for one in pictures) == sorted(
        shorten(plot.alt, LONGEST_ALT) for plot in plots
    )
    assert {plot.finding for plot in plots} <= set(reader.text("h3"))


def test_ids_are_unique_and_what_refers_finds(whole):
    """In-page links, labels, and the parts of the pictures."""
    reader = Reader(whole[0])
    ids = [attributes["id"] for _, attributes in reader.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in reader.elements:
        for name in ("href", "xlink:href", "aria-labelledby", "clip-path"):
            value = attributes.get(name)
            if value and value != "data:,":
                target = re.sub(r"^(url\()?#|\)$", "", value)
                assert target in ids, (tag, name, value)


def test_tables_are_all_there(page):
    """Each value of the tables as text, and each number to the last digit beside it, for sorting."""
    reader = Reader(page)
    table = next(comparison_tables(small().comparisons[0]))
    shown = [text.strip() for tag, text in reader.texts if tag in ("td", "th", "span")]
    for row in table.rows:
        assert set(map(text_of, row)) <= set(shown)
    assert {column.heading for column in table.columns} <= set(shown)
    numbers = {float(str(one["data-value"])) for one in reader.all("td") if "data-value" in one}
    assert {small().comparisons[0].cells[0].rate, small().comparisons[0].cells[0].ratio.estimate, 64.0} <= numbers


def test_refused_files_are_listed_with_their_sentence(page):
    """Name and reason, and the top says how many."""
    reader = Reader(page)
    assert "foreign.json" in reader.text("code")
    assert refused()[0].reason in reader.text("span")
    assert any("1 file refused" in text for text in reader.text("p"))


def test_what_strangers_wrote_stays_text():
    """A name that closes our script and opens an image is shown as these very letters, wherever it comes from."""
    page = to_html(hostile())
    reader = Reader(page)
    assert not reader.all("img")
    assert len(reader.all("script")) == 1
    assert "<img" not in page
    assert page.count("</script>") == 1
    assert page.count("&lt;/script&gt;&lt;img") > 10
    assert HOSTILE in reader.text("code")


def test_the_page_is_the_same_each_time(page):
    """No date, no random name: two renderings can be compared."""
    assert to_html(small()) == page


def test_every_colour_of_the_plots_has_a_value_in_light_and_in_dark(page):
    """The roles of the plots are defined in each of the three places, with a different value in the dark."""
    blocks = re.findall(r"\{[^{}]*--page:[^{}]*\}", page)
    values = [dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in blocks]
    full = [found for found in values if len(found) > 5]
    assert len(full) == 3
    light, by_system, by_choice = full
    assert by_system == by_choice
    for colour, role in ROLES.items():
        assert light[role] == colour
        assert by_choice[role] != colour


def test_a_hundred_sweeps_are_one_page():
    """Twenty plots at most, and all but the first tables folded."""
    many = StoredResults(tuple(sweep(f"{n}.json", batch_sizes=(64,), seed=n) for n in range(100)))
    reader = Reader(to_html(many))
    assert len(reader.all("svg")) < 20
    assert len(reader.all("details")) >= 100
    assert sum("open" in one for one in reader.all("details")) < 10
