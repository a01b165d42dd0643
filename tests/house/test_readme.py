"""The README: its table and its pictures are those of stored results and of what the commands do."""

import html
import re
from xml.etree import ElementTree as ET

import pytest

from mnist_loop import loop
from mnist_loop.report.reading import read_results
from mnist_loop.report.tables.markdown import table_to_markdown
from mnist_loop.report.tables.throughput import throughput_table
from tests.house import pictures

AGAIN = "run python -m tests.house.pictures"
NEAR = 0.5  # points: what another version of matplotlib may place differently


def test_the_table_is_that_of_the_stored_result(request):
    """``mnist-loop report FILE --format markdown`` prints it; loop.py opens with its row of batch size 64."""
    marked = re.search(r"<!-- results: (\S+) -->\n(.*?)<!-- end of results -->", pictures.readme(), re.DOTALL)
    assert marked is not None
    (sweep,) = read_results([request.config.rootpath / marked[1]]).sweeps
    assert marked[2] == table_to_markdown(throughput_table(sweep))
    (row,) = re.findall(r"^\| cpu \| 64 \| .*$", marked[2], re.MULTILINE)
    claim = re.search(r"Measured: (\S+) images/s end to end .* takes (\d+) %", " ".join((loop.__doc__ or "").split()))
    assert claim is not None, "loop.py says nothing of its speed"
    assert row.split(" | ")[4].split()[0] == claim[1]
    assert row.endswith(f"| input {claim[2]}% |")


def test_the_plot_is_that_of_the_stored_result(tmp_path):
    """It has the title, the description with its figures, and each mark where the same command draws it now."""

    def seen(svg):
        words = re.findall(r"<dc:(?:title|description)>(.*?)</dc:", svg, re.DOTALL)
        marks = [
            (float(use.get("x")), float(use.get("y")))
            for use in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}use")  # noqa: S314  # our own
            if use.get("x")
        ]
        return words, marks

    words, marks = seen((pictures.FOLDER / "throughput.svg").read_text(encoding="utf-8"))
    words_now, marks_now = seen(pictures.throughput(tmp_path))
    assert words == words_now, AGAIN
    assert len(marks) == len(marks_now) > 0, AGAIN
    for mark, mark_now in zip(marks, marks_now, strict=True):
        assert mark == pytest.approx(mark_now, abs=NEAR), AGAIN


def test_the_finding_is_what_the_command_shows(tmp_path):
    """The same words, but for the seconds, the version of torch and the numbers of cases and of laws that hold."""

    def words(svg):
        text = "".join(html.unescape(piece) for piece in re.findall(r"<text [^>]*>(.*?)</text>", svg, re.DOTALL))
        text = re.sub(r"\s+", "", text)  # versions of rich cut the text into different pieces
        return re.sub(r"torch[\d.]+(\+\w+)?|[\d.]+s(?=zero)|\d+cases?|\d+lawshold|of\d+that", "", text)

    stored = (pictures.FOLDER / "finding.svg").read_text(encoding="utf-8")
    assert "zero-grad-missing" in words(stored)
    assert words(stored) == words(pictures.finding(tmp_path)), AGAIN


def test_the_portuguese_readme_shows_the_same_loop_and_figures(request):
    """The broken loop and the accuracies are those of the English README."""
    english, portuguese = pictures.readme(), (request.config.rootpath / "README.pt-BR.md").read_text(encoding="utf-8")
    (loop,) = re.findall(r"```python\n.*?```", english, re.DOTALL)
    assert loop in portuguese
    figures = re.findall(r"\b0\.[89]\d\d\b", english)
    assert len(figures) == 5
    assert re.findall(r"\b0,[89]\d\d\b", portuguese) == [figure.replace(".", ",") for figure in figures]
