"""``mnist-loop compare``: a real comparison from end to end, gone on with, interrupted, and what it refuses."""

import contextlib
import io
import json
import os
import re
import signal
import threading
from typing import Any, NamedTuple

import psutil
import pytest

from mnist_loop.cli import main
from mnist_loop.compare.journal import blocks, read_journal
from tests.programs import children

QUICK = ["--data", "digits", "--device", "cpu", "--threads", "1"]
WAIT_S = 200.0  # for the first measurement, on a loaded machine


class Run(NamedTuple):
    """What a run of the command left behind: exit code, output, the lines of its file, and the processes it had."""

    code: int
    out: str
    err: str
    head: dict[str, Any]
    events: list[dict[str, Any]]
    workers: set[psutil.Process]


@contextlib.contextmanager
def interrupted_when(happened):
    """Do as Ctrl-C does, as soon as something has happened; yield the set of the processes started until then."""
    before, workers, over = children(), set(), threading.Event()

    def interrupt():
        for _ in range(int(WAIT_S / 0.05)):
            if over.wait(0.05):
                return
            if happened():
                workers.update(children() - before)
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield workers
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of a loop with itself and with itself slowed down: one run that Ctrl-C ended, one that went on."""
    file = tmp_path_factory.mktemp("compared") / "run.jsonl"
    before, runs = children(), []

    def run(*arguments, workers=()):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["compare", *arguments])
        assert children() == before
        runs.append(Run(code, out.getvalue(), err.getvalue(), *read_journal(file), set(workers)))

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)
        with interrupted_when(lambda: file.exists() and '"block"' in file.read_text()) as workers:
            run(".", ".:slowdown=1", *QUICK, "--budget", "600s", "-o", file.name, workers=workers)
        spent = runs[0].events[-1]["seconds"]  # more on a loaded machine
        run("--continue", file.name, "--budget", f"{spent + 5:.0f}s")
    return runs


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured(compared):
    """Exit code 130, the file, how to go on, no traceback, no process left behind."""
    interrupted, _ = compared
    assert interrupted.code == 130, interrupted.err
    assert "mnist-loop compare --continue run.jsonl goes on" in interrupted.out
    assert "Traceback" not in interrupted.out + interrupted.err
    assert blocks(interrupted.events)
    assert len(interrupted.workers) > 2
    _, alive = psutil.wait_procs(interrupted.workers, timeout=20)
    assert alive == []


@pytest.mark.slow
def test_a_comparison_goes_on(compared):
    """With more of the budget: what was measured stays, and more is added; what it is of comes from the file."""
    interrupted, went_on = compared
    # On a loaded machine the budget ends before the second restart, and then the command says so and fails.
    assert went_on.code == int("no verdict on" in went_on.out), went_on.err
    before, after = blocks(interrupted.events), blocks(went_on.events)
    assert after[: len(before)] == before
    assert len(after) > len(before)
    assert went_on.head == interrupted.head
    assert re.search(r"budget: \d+ s in all, that of --budget; ", went_on.out)
    assert ".:slowdown=1" in went_on.out


@pytest.mark.slow
def test_a_comparison_says_what_it_found_and_where_it_is(compared):
    """The table, and the file, in which every block is."""
    _, done = compared
    assert ".:slowdown=1" in done.out
    assert re.search(r"^stored in run\.jsonl; \S+ m?s of measuring, \S+ s in all$", done.out, re.MULTILINE)
    assert [arm["label"] for arm in done.head["arms"]] == [".", ".:slowdown=1", ". again"]
    assert done.events[-1]["event"] == "end"
    measured = blocks(done.events)
    rates = [sorted(block.seconds / block.images for block in measured if block.arm == arm) for arm in range(3)]
    plain, slow, again = (of_arm[len(of_arm) // 2] for of_arm in rates)
    assert slow > 1.5 * max(plain, again), "a step that is twice as slow takes twice as long, about"
    assert os.uname().nodename not in json.dumps([done.head, done.events])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "."], "nowhere: not there, nor in .tox"),
        (["."], "one arm found (.), expected two or more"),
        ([".", ".", "--margin", "0"], "argument --margin: '0' found, expected a percentage above 0"),
        ([".", ".", "--budget", "soon"], "argument --budget: 'soon' found, expected a time above 0"),
        ([".", ".", "--set", "speed=2"], "setting 'speed': not known"),
        (["--continue", "nowhere.jsonl"], "nowhere.jsonl: cannot be read (No such file or directory)"),
        ([".", ".", "--continue", "nowhere.jsonl"], "--continue FILE goes on with what is in FILE"),
    ],
)
def test_misuse_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, message):
    """Exit code 2, before any process is started."""
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["compare", *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_verdicts_that_fail(tmp_path, monkeypatch, capsys):
    """--fail-on gives exit code 1 with such a verdict, and 0 with another."""
    from mnist_loop.cli import compare
    from tests.results_maker import comparison_lines

    file = tmp_path / "run.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in comparison_lines(slowdown=1.1, generations=20)))
    assert compare._conclude(file, "certain", ["slower"]) == 1
    assert compare._conclude(file, "certain", ["faster", "inconclusive"]) == 0
    assert compare._conclude(file, "interrupted", []) == 130
    assert compare._conclude(file, "arm 1: its process ended", []) == 1
    assert "--continue" in capsys.readouterr().out
