"""``mnist-loop compare``: a real comparison from end to end, gone on with, interrupted, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mnist_loop.cli import main
from mnist_loop.compare.journal import blocks, read_journal
from tests.programs import children, running

QUICK = ["--data", "digits", "--device", "cpu", "--threads", "1", "--budget", "3s"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of a loop with itself and with itself slowed down to a tenth; the exit code, output and file."""
    folder = tmp_path_factory.mktemp("compared")
    before = children()
    command = [sys.executable, "-m", "mnist_loop", "compare", ".", ".:slowdown=1", *QUICK, "-o", "run.jsonl"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert children() == before
    return done, folder / "run.jsonl"


def test_a_comparison_says_what_it_found_and_where_it_is(compared):
    """The table, the reason, and the file, in which every block is; no process is left."""
    done, file = compared
    # On a loaded machine the budget ends before the second restart, and then the command says so and fails.
    assert done.returncode == int("no verdict on" in done.stdout), done.stderr
    assert ".:slowdown=1" in done.stdout
    assert f"stored in {file.name}" in done.stdout
    head, events = read_journal(file)
    assert [arm["label"] for arm in head["arms"]] == [".", ".:slowdown=1", ". again"]
    assert events[-1]["event"] == "end"
    measured = blocks(events)
    rates = [sorted(block.seconds / block.images for block in measured if block.arm == arm) for arm in range(3)]
    plain, slow, again = (of_arm[len(of_arm) // 2] for of_arm in rates)
    assert slow > 1.5 * max(plain, again), "a step that is twice as slow takes twice as long, about"
    assert os.uname().nodename not in file.read_text()


def test_a_comparison_goes_on(compared, capsys):
    """With more of the budget: what was measured stays, and more is added; what it is of comes from the file."""
    _, file = compared
    before = blocks(read_journal(file)[1])
    assert main(["compare", "--continue", str(file), "--budget", "8s"]) == 0
    after = blocks(read_journal(file)[1])
    assert after[: len(before)] == before
    assert len(after) > len(before)
    assert ".:slowdown=1" in capsys.readouterr().out


def test_ctrl_c_keeps_what_was_measured(tmp_path):
    """Exit code 130, the file, how to go on, no traceback, no process left behind."""
    command = [sys.executable, "-m", "mnist_loop", "compare", ".", ".", *QUICK[:-1], "600s", "-o", "run.jsonl"]
    with running(command, cwd=tmp_path) as process:
        file = tmp_path / "run.jsonl"
        end = time.monotonic() + 200
        while time.monotonic() < end and not (file.exists() and '"block"' in file.read_text()):
            time.sleep(0.1)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "mnist-loop compare --continue run.jsonl goes on" in out
    assert "Traceback" not in out + error
    assert blocks(read_journal(file)[1])
    assert len(workers) > 2
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


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
