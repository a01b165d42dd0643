"""A verdict as a notebook shows it: all of the diagnosis, nothing of a loop's that could be markup."""

from html.parser import HTMLParser

import pytest

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.finding import Judgement
from mnist_loop.verdict.text import REMINDER, header, summary
from tests.verdict.made import DIFFERS, MISSING, finding, verdict

HOSTILE = "<script>alert(1)</script> </pre> & \"a\" 'b' {{ 1 + 1 }} \x1b[2J"


class Page(HTMLParser):
    """What a browser shows: the text, and the tags, each of which is closed."""

    def __init__(self, content):
        super().__init__()
        self.text, self.tags, self.open = "", set(), []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def loop(tmp_path, monkeypatch):
    """The attributes of a loop in a file of the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_train.py").write_text("def train(model):\n    loss.backward()\n", encoding="utf-8")
    return {"file": str(tmp_path / "my_train.py"), "lines": (1, 2)}


def test_a_notebook_shows_the_diagnosis(loop):
    """Evidence, fix, line, consequences, the code that shows it again, and the count."""
    made = verdict(MISSING, DIFFERS, **loop)
    shown = Page(made._repr_html_()).text
    bug = BUGS["zero-grad-missing"]
    for part in (header(made), bug.title, MISSING.text, bug.hint, "my_train.py:2: loss.backward()", "gradient-differs"):
        assert part in shown
    assert made.snippet(made.diagnoses[0]) in shown
    assert summary(made) in shown
    assert REMINDER in shown


def test_a_notebook_shows_all_that_fails(loop):
    """Also what is expected, ignored, or was watched."""
    shown = Page(verdict(MISSING, expected=["zero-grad-missing", "step-missing"], **loop)._repr_html_()).text
    assert "(expected: it is known)" in shown
    assert "known.txt, line 2: step-missing: expected to fail, but held" in shown
    shown = Page(verdict(MISSING, ignore={"zero-grad-missing": "pyproject.toml"}, **loop)._repr_html_()).text
    assert "(ignored: pyproject.toml)" in shown
    assert MISSING.text not in shown
    seen = Judgement(None, [finding("step-missing", case=None)], ["graph-leak"])
    shown = Page(verdict(judgements=[seen], tool="check", watched="3 steps of SGD")._repr_html_()).text
    assert "watched: 3 steps of SGD" in shown
    assert "Smallest case" not in shown


def test_what_a_loop_says_is_no_markup(tmp_path, monkeypatch):
    """In the evidence, the line, the name and the output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "<b>.py").write_text("def train(model):\n    loss.backward()  # <img src=x>\n", encoding="utf-8")
    made = verdict(finding("zero-grad-missing", shows=HOSTILE), file=str(tmp_path / "<b>.py"), lines=(1, 2))
    made.name = "<b>.py:train"
    page = Page(made._repr_html_())
    assert page.tags <= {"div", "b", "code", "pre", "details", "summary"}
    assert HOSTILE.replace("\x1b", "\\x1b") in page.text
    assert "<img src=x>" in page.text
