"""Progress: lines that stay; on a terminal, a bar beneath them that fits, counts and tells an honest time."""

import gc
import io
import re
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_loop.support.progress import Counted, Progress

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
SHOW_CURSOR = "\x1b[?25h"


class Terminal(io.StringIO):
    """A terminal that remembers all that was written on it."""

    def isatty(self):
        return True

    def rows(self):
        """All that was ever to be seen, row by row."""
        return re.split(r"[\r\n]+", CONTROL.sub("", self.getvalue()))


class Clock:
    """Time that passes when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock that rich reads."""
    clock = Clock()
    monkeypatch.setattr("rich.console.monotonic", clock)
    return clock


@pytest.fixture
def terminal(monkeypatch):
    """Make stdout a terminal of a width."""

    def make(columns):
        terminal = Terminal()
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr("sys.stdout", terminal)
        return terminal

    return make


@pytest.mark.parametrize("to_stderr", [False, True])
def test_a_pipe_gets_the_lines_alone(capsys, to_stderr):
    """Each line as it is, whatever it contains and however long; no bar, no control character; on one stream."""
    lines = ["plain", "[bold]not markup[/bold] :smile: 1234 'x'", "long " * 100, "", "MNIST/raw/ünï"]
    with Progress(to_stderr=to_stderr) as progress:
        progress.status("training", total=3)
        for line in lines:
            progress.line(line)
            progress.advance()
    out, err = capsys.readouterr()
    got, silent = (err, out) if to_stderr else (out, err)
    assert got == "".join(f"{line}\n" for line in lines)
    assert silent == ""


def test_each_line_is_there_at_once(tmp_path, monkeypatch):
    """Who follows a log sees a line when it is written, not when a buffer is full."""
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        with Progress() as progress:
            progress.line("first")
            assert log.read_text(encoding="utf-8") == "first\n"


def test_without_a_stdout_nothing_is_written(monkeypatch):
    """A program that is started with its stdout closed has None there, and goes on."""
    monkeypatch.setattr("sys.stdout", None)
    with Progress() as progress:
        progress.line("unseen")


def test_the_remaining_time_is_that_of_the_rate(terminal, clock):
    """At eight batches a second, 80 batches before the end, ten seconds remain."""
    screen = terminal(80)
    with Progress() as progress:
        progress.status("training", total=130)
        for _ in range(50):
            clock.now += 0.125
            progress.advance()
        clock.now += 1  # rich reckons anew twice a second at most
        progress._bar.refresh()
    assert any(re.search(r"training .* 50/130 batches, remaining 0:00:10", row) for row in screen.rows())


def test_the_rate_counts_from_the_status_on(terminal, clock):
    """The time that loading took is no part of the time of a batch."""
    screen = terminal(80)
    with Progress() as progress:
        progress.status("loading")
        clock.now += 3600
        progress.status("training", total=130)
        for _ in range(50):
            clock.now += 0.125
            progress.advance()
        clock.now += 1
        progress._bar.refresh()
    assert any("50/130 batches, remaining 0:00:10" in row for row in screen.rows())


def test_an_unknown_length_is_not_counted(terminal):
    """While nobody knows how long it takes, there are words alone, and neither a count nor a time."""
    screen = terminal(80)
    with Progress() as progress:
        progress.status("loading torch")
        progress._bar.refresh()
    seen = {row.strip() for row in screen.rows()}
    assert "loading torch" in seen
    assert seen <= {"loading torch", ""}


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_the_bar_fits(terminal, columns):
    """Whatever the width, no row of the bar is wider: it would be left behind when the next one is drawn."""
    screen = terminal(columns)
    with Progress() as progress:
        progress.status("training", total=5475)
        progress._bar.refresh()
    bars = [row for row in screen.rows() if row.strip()]
    assert bars
    assert max(map(len, bars)) <= columns
    if columns >= 60:
        assert any("0/5475 batches, remaining -:--:--" in row for row in bars)


def test_a_line_stays_above_the_bar(terminal):
    """A terminal gets the same lines, unbroken: a path that was broken could not be copied."""
    screen = terminal(60)
    text = "checkpoint: " + "/very/long/path" * 10
    with Progress() as progress:
        progress.status("training", total=10)
        progress.line(text)
        progress.line("[bold]:smile:")
    assert text in screen.rows()
    assert "[bold]:smile:" in screen.rows()


def test_the_cursor_is_back_after_an_error(terminal):
    """However it ends, the terminal is as it was."""
    screen = terminal(80)

    def interrupted():
        with Progress() as progress:
            progress.status("training", total=10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    written = screen.getvalue()
    assert written.rindex(SHOW_CURSOR) > written.rindex("\x1b[?25l")


class Count:
    """Counts."""

    def __init__(self):
        self.batches = 0

    def advance(self):
        self.batches += 1


@given(batches=st.lists(st.integers()), times=st.integers(1, 3))
def test_counting_changes_nothing(batches, times):
    """A counted loader has the length of the loader and yields the same, over and over; each batch counts once."""
    count = Count()
    counted = Counted(batches, count)
    assert len(counted) == len(batches)
    for _ in range(times):
        assert list(counted) == batches
    assert count.batches == times * len(batches)


def test_a_batch_counts_when_it_is_done():
    """Not when it is fetched: after one of three batches, none is done yet; a loop that is left counts no more."""
    count = Count()
    for seen, _ in enumerate(Counted(["a", "b", "c"], count)):
        assert count.batches == seen
        if seen == 1:
            break
    assert count.batches == 1


class Batch:
    """Something that can be watched."""


def test_counting_keeps_no_batch_alive():
    """While the next batch is fetched, the last one is gone, unless the loop itself holds it."""
    alive = []

    class Loader:
        def __len__(self):
            return 3

        def __iter__(self):
            for _ in range(3):
                assert not any(reference() for reference in alive), "a batch outlived its turn"
                batch = Batch()
                alive.append(weakref.ref(batch))
                yield batch
                del batch

    gc.disable()
    try:
        batches = iter(Counted(Loader(), Count()))
        for _ in range(3):
            next(batches)
    finally:
        gc.enable()
    assert len(alive) == 3
