"""The most likely line: named for most mutants with a bug in one line, never a wrong one, and otherwise none."""

import functools
import textwrap
from pathlib import Path

import pytest

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.location import likely_line
from mnist_loop.verification.binding.bind import bind
from tests.loops.mutants import MUTANTS

# The comment of the line to change in a mutant, or, where something is missing, of the line at which it is missing.
MARK = "# the likely line"


@functools.cache
def named(mutant):
    """Return the line that is named for a mutant."""
    where = bind(mutant.loop).location
    return likely_line(BUGS[mutant.bug], where.file, (where.line, where.end))


def source_of(mutant):
    """Return the lines of a mutant."""
    where = bind(mutant.loop).location
    return Path(where.file).read_text(encoding="utf-8").splitlines()[where.line - 1 : where.end]


def test_the_right_line_of_a_mutant_is_named_or_none():
    """Never a wrong one."""
    for mutant in MUTANTS:
        line = named(mutant)
        if line is None:
            assert not any(MARK in text for text in source_of(mutant)), f"{mutant}: the marked line is not named"
        else:
            assert line.text.endswith(MARK), f"{mutant}: {line.text!r} is named: mark it if it is the line to change"


def test_a_line_is_named_for_more_than_half_of_the_mutants():
    """Of each bug with patterns, for one at least: no pattern is left that does nothing."""
    found = [mutant.bug for mutant in MUTANTS if named(mutant)]
    assert len(found) > len(MUTANTS) / 2
    assert set(found) == {bug.id for bug in BUGS.values() if bug.lines}


@pytest.fixture
def search(tmp_path):
    """Return a function that looks for a bug in a source whose loop is ``def train``; returns number and text."""
    file = tmp_path / "my_train.py"

    def do(bug, source):
        file.write_text(textwrap.dedent(source), encoding="utf-8")
        lines = file.read_text(encoding="utf-8").splitlines()
        first = next(number for number, line in enumerate(lines, 1) if line.lstrip().startswith("def train"))
        indent = len(lines[first - 1]) - len(lines[first - 1].lstrip())
        last = first
        for number in range(first + 1, len(lines) + 1):
            if lines[number - 1].strip() and not lines[number - 1].startswith(" " * (indent + 1)):
                break
            last = number
        found = likely_line(BUGS[bug], str(file), (first, last))
        return found and (found.line, found.text)

    return do


def test_the_line_is_given_as_it_stands(search, tmp_path, monkeypatch):
    """With its indentation; the place is the file as it is found from here."""
    source = "def train(model, loader):\n    for x in loader:\n        loss.backward()  # here\n"
    assert search("zero-grad-missing", source) == (3, "        loss.backward()  # here")
    found = likely_line(BUGS["zero-grad-missing"], str(tmp_path / "my_train.py"), (1, 3))
    assert found.place == f"{tmp_path / 'my_train.py'}:3"
    monkeypatch.chdir(tmp_path)
    assert found.place == "my_train.py:3"


def test_of_two_lines_none_is_named(search):
    """Either could be it."""
    source = """
        def train(model, loader):
            first.backward()
            second.backward()
    """
    assert search("zero-grad-missing", source) is None


def test_a_line_that_is_there_goes_before_one_that_lacks_something(search):
    """zero_grad() of something else is the likelier line; of two of them none is."""
    source = """
        def train(model, loader):
            other.zero_grad()
            loss.backward()
    """
    assert search("zero-grad-missing", source) == (3, "    other.zero_grad()")
    assert search("zero-grad-missing", source + "            another.zero_grad()\n") is None


def test_comments_and_docstrings_are_no_code(search):
    """They talk of the bug more often than they are it."""
    source = '''
        def train(model, loader):
            """Softmax: softmax(x).

            softmax(y)
            """
            # softmax(x)
            y = x  # softmax(x)
            return softmax(y)
    '''
    assert search("softmax-before-cross-entropy", source) == (9, "    return softmax(y)")


def test_it_looks_in_the_loop_then_its_class_then_what_it_calls(search):
    """And not in the rest of the file, which may hold another loop."""
    helper = """
        def outputs_of(model, x):
            return F.softmax(model(x), dim=1)

    """
    calls = """
        def train(model, loader):
            loss_fn(outputs_of(model, x), y)
    """
    stranger = """
        def train(model, loader):
            loss_fn(model(x), y)
    """
    method = """
        class Trainer:
            def forward(self, x):
                return F.softmax(self.model(x))

            def train(self, loader):
                self.loss_fn(self.forward(x), y)
    """
    assert search("softmax-before-cross-entropy", helper + calls) == (3, "    return F.softmax(model(x), dim=1)")
    assert search("softmax-before-cross-entropy", helper + stranger) is None
    assert search("softmax-before-cross-entropy", method)[0] == 4
    assert search("softmax-before-cross-entropy", helper + method)[0] == 8


def test_a_break_counts_where_it_leaves_the_batches(search):
    """Not where it leaves the epochs, as early stopping does."""
    source = """
        def train(model, loader, epochs):
            for epoch in range(epochs):
                for x, y in loader:
                    {inner}
                {outer}
    """
    assert search("stops-after-first-batch", source.format(inner="break", outer="pass"))[0] == 5
    assert search("stops-after-first-batch", source.format(inner="pass", outer="break")) is None


def test_without_a_source_there_is_no_line(tmp_path):
    """No file, one that has gone, one that is no Python any more, one that is no text; a bug without a pattern."""
    file = tmp_path / "my_train.py"
    for content in (None, b"def train(:", b"'''", b"\xff\xfe", b"# coding: nonsense", b"\x00"):
        if content is not None:
            file.write_bytes(content)
        assert likely_line(BUGS["step-missing"], str(file), (1, 1)) is None
    file.write_text("loss.backward()")
    assert likely_line(BUGS["step-missing"], None, (1, 1)) is None
    assert likely_line(BUGS["step-missing"], str(file), None) is None
    assert likely_line(BUGS["loop-crashes"], str(file), (1, 1)) is None
    assert likely_line(BUGS["step-missing"], str(file), (1, 1)).line == 1
