"""Comments that silence a finding: where they hold, what becomes of the verdict, and wrong ones."""

import textwrap

import pytest

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.document import document
from mnist_loop.verdict.finding import Judgement
from mnist_loop.verdict.location import SourceLine
from tests.verdict.made import DIFFERS, MISSING, finding, verdict

LOOP = """\
    @some_decorator
    def train(model, loader, loss_fn, optimizer):{on_def}
        for images, labels in loader:{on_for}
            {above}
            loss = loss_fn(
                model(images),{inside}
                labels,
            ){behind}
            loss.backward(){on_line}


    def other():{on_other}
        pass
"""
PLACES = ("on_def", "on_for", "above", "inside", "behind", "on_line", "on_other")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a loop with comments, and returns the attributes of a verdict on it."""
    monkeypatch.chdir(tmp_path)

    def do(**comments):
        texts = dict.fromkeys(PLACES, "") | {place: f"  # {text}" for place, text in comments.items()}
        source = textwrap.dedent(LOOP).format(**texts)
        (tmp_path / "my_train.py").write_text(source, encoding="utf-8")
        return {"file": str(tmp_path / "my_train.py"), "lines": (1, 9)}

    return do


@pytest.mark.parametrize(
    ("comment", "silences"),
    [
        ("mnist-loop: ignore[zero-grad-missing]", True),
        ("why: #mnist-loop:ignore [ loss-sum , zero-grad-missing ]", True),
        ("noqa: E501  # mnist-loop: ignore[zero-grad-missing]  # because", True),
        ("mnist-loop: ignore[loss-sum]", False),
        ("mnist-loop: ignore[zero-grad]", False),
        ("mnist-loop: ignore", False),
        ("mnist-loop: ignored[zero-grad-missing]", False),
    ],
)
def test_a_comment_names_ids(write, comment, silences):
    """One or several, beside other comments; nothing but the id of the finding silences it."""
    made = verdict(MISSING, **write(on_line=comment))
    assert [found.ignored for found in made.diagnoses] == ["my_train.py:9" if silences else ""]


@pytest.mark.parametrize(
    ("place", "first", "silenced"),
    [
        ("on_def", 2, True),
        ("on_for", 3, False),
        ("above", 4, False),
        ("inside", 6, False),
        ("behind", 8, False),
        ("on_line", 9, True),
        ("on_other", 12, False),
    ],
)
def test_a_comment_holds_for_its_line_or_the_function(write, place, first, silenced):
    """Of what the finding names, which is line 9 here."""
    made = verdict(MISSING, **write(**{place: "mnist-loop: ignore[zero-grad-missing]"}))
    assert [found.ignored for found in made.diagnoses] == [f"my_train.py:{first}" if silenced else ""]
    assert made.exit_code == (0 if silenced else 1)


@pytest.mark.parametrize("place", ["inside", "behind"])
def test_a_statement_of_several_lines_is_one(write, place):
    """A finding names one of them, and the comment stands in another."""
    attributes = write(**{place: "mnist-loop: ignore[loss-sum]"})
    line = SourceLine(attributes["file"], 5, "        loss = loss_fn(")
    (found,) = verdict(finding("loss-sum", line=line), **attributes).diagnoses
    assert found.ignored


def test_a_finding_without_a_line_is_silenced_at_the_def(write):
    """Of the loop; and nowhere else."""
    bug = next(bug.id for bug in BUGS.values() if not bug.lines and bug.severity == "bug")
    for place in PLACES:
        made = verdict(finding(bug), **write(**{place: f"mnist-loop: ignore[{bug}]"}))
        assert bool(made.diagnoses[0].ignored) == (place == "on_def"), place


def test_what_is_ignored_is_shown_and_fails_nothing(write):
    """With its consequences: the count has it, the evidence is left to the document."""
    made = verdict(MISSING, DIFFERS, **write(on_line="mnist-loop: ignore[zero-grad-missing]"))
    assert made.exit_code == 0
    assert made.result == "clean"
    assert made.bugs == []
    lines = str(made).splitlines()
    title = BUGS["zero-grad-missing"].title
    assert f"zero-grad-missing: {title} (ignored: my_train.py:9)" in lines
    assert any(line.startswith("no bug, 1 ignored, ") for line in lines)
    assert MISSING.text not in str(made)
    (found,) = document(made)["diagnoses"]
    assert (found["ignored"], found["text"]) == ("my_train.py:9", MISSING.text)


def test_an_other_bug_fails_and_goes_first(write):
    """What is silenced hides nothing but itself and its consequences."""
    attributes = write(on_line="mnist-loop: ignore[zero-grad-missing]")
    made = verdict(MISSING, DIFFERS, finding("loss-sum"), **attributes)
    assert [found.id for found in made.diagnoses] == ["loss-sum", "zero-grad-missing"]
    assert made.primary == "loss-sum"
    assert made.exit_code == 1


def test_each_finding_needs_its_own_comment(write):
    """A bug at two lines, one of them silenced, is told with the other one."""
    attributes = write(behind="mnist-loop: ignore[step-missing]")
    lines = [SourceLine(attributes["file"], number, "") for number in (8, 9)]
    found = [finding("step-missing", shows=str(line.line), case=None, line=line) for line in lines]
    made = verdict(judgements=[Judgement(None, found, ["graph-leak"])], file=attributes["file"])
    (told,) = made.diagnoses
    assert (told.ignored, told.finding.text) == ("", "9")
    assert made.exit_code == 1


def test_what_is_expected_is_not_ignored(write):
    """It is strict, and told with its reason."""
    attributes = write(on_line="mnist-loop: ignore[zero-grad-missing]")
    made = verdict(MISSING, expected=["zero-grad-missing"], **attributes)
    assert made.diagnoses[0].ignored == ""
    assert made.exit_code == 0


def test_a_setting_silences_everywhere():
    """It is told where it stands."""
    made = verdict(MISSING, ignore={"zero-grad-missing": "pyproject.toml"})
    assert made.diagnoses[0].ignored == "pyproject.toml"
    assert made.exit_code == 0


@pytest.mark.parametrize(
    ("comment", "says"),
    [
        ("mnist-loop: ignore[zero-grad-mising]", "did you mean zero-grad-missing?"),
        ("mnist-loop: ignore[loss-sum, all]", "'all' found, expected the id of a bug"),
        ("mnist-loop: ignore", "expected ignore[ID]"),
        ("mnist-loop: ignore[]", "expected ignore[ID]"),
    ],
)
def test_a_comment_that_names_no_bug_is_told(write, comment, says):
    """In one sentence with its place; it silences nothing and fails nothing."""
    for made in (verdict(**write(above=comment)), verdict(MISSING, **write(above=comment))):
        (note,) = made.notes
        assert note.startswith("my_train.py:4: # mnist-loop: ignore")
        assert says in note
        assert note in str(made).splitlines()
        assert document(made)["notes"] == [note]
        assert made.exit_code == len(made.bugs)


def test_other_words_are_no_comment_of_ours(write):
    """They are not told as wrong ones either."""
    for words in ("mnist-loop: ignored[x]", "see mnist-loop: ignore-all", "mnist_loop: ignore[x]"):
        assert verdict(**write(on_line=words)).notes == []


@pytest.mark.parametrize("source", ["def train(:\n", "x = '''", "\x00", "# mnist-loop: ignore[loss-sum]\n x"])
def test_a_file_that_is_no_python_has_no_comments(tmp_path, source):
    """It was changed, or is of another kind."""
    (tmp_path / "bad.py").write_text(source)
    made = verdict(finding("loss-sum"), file=str(tmp_path / "bad.py"), lines=(1, 1))
    assert made.exit_code == 1
    assert made.notes == []


def test_a_line_without_a_file_is_read_as_it_was(tmp_path):
    """Such as that of a notebook's cell."""
    line = SourceLine("<cell 3>", 7, "loss.backward()  # mnist-loop: ignore[step-missing]")
    assert verdict(finding("step-missing", line=line)).exit_code == 0
    assert verdict(finding("loss-sum", line=line)).exit_code == 1
