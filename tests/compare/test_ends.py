"""However a comparison ends, no process and no folder of it is left, and its file says why it ended."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from mnist_loop.cli import main
from mnist_loop.compare import crew
from mnist_loop.compare.arms import PACKAGE
from mnist_loop.compare.journal import read_journal
from tests.programs import children, running

STEP = "        optimizer.step()\n"
QUICK = ["--data", "digits", "--device", "cpu", "--threads", "1", "--budget", "1s"]
LONG_S = 120.0  # for an importing process, on a loaded machine


def checkout(folder: Path, step: str) -> Path:
    """Write a checkout whose loop has another step."""
    shutil.copytree(PACKAGE, folder / "mnist_loop", ignore=shutil.ignore_patterns("bench", "support", "__pycache__"))
    loop = folder / "mnist_loop" / "loop.py"
    assert STEP in loop.read_text()
    loop.write_text(loop.read_text().replace(STEP, step))
    return folder


def last_event(file: Path) -> dict[str, object]:
    _, events = read_journal(file)
    return dict(events[-1])


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, alone in which this test makes some."""
    folder = tmp_path_factory.mktemp("t")  # a socket's path has at most a hundred characters
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.mark.slow
def test_a_step_that_hangs_has_a_time_limit(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence that names it, exit code 1, an end in the file, and no process that sleeps on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(crew, "STEPS_S", 5.0)
    checkout(tmp_path / "hang", "        import time; time.sleep(1000)\n")
    before = children()
    assert main(["compare", ".", "./hang", *QUICK, "-o", "run.jsonl"]) == 1
    assert children() == before
    assert list(temporary.iterdir()) == []
    sentence = "./hang: no answer for 5 s, the time limit, when asked for 'prepare'"
    assert f"\n{sentence}; mnist-loop compare --continue run.jsonl goes on\n" in capsys.readouterr().out
    assert last_event(tmp_path / "run.jsonl")["why"] == sentence


@pytest.mark.slow
def test_arms_that_differ_have_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file says that they do, and a report of it repeats that."""
    monkeypatch.chdir(tmp_path)
    checkout(tmp_path / "other", "")
    assert main(["compare", ".", "./other", *QUICK, "-o", "run.jsonl"]) == 1
    assert "./other does not compute what . does" in str(last_event(tmp_path / "run.jsonl")["why"])
    assert "./other does not compute what . does" in " ".join(capsys.readouterr().out.split())
    assert main(["report", "run.jsonl"]) == 0
    assert "killed" not in capsys.readouterr().out


@pytest.mark.slow
def test_an_engine_that_refuses_is_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one sentence, and the same in the file."""
    monkeypatch.chdir(tmp_path)
    assert main(["compare", ".", ".:engine=graphed", *QUICK, "-o", "run.jsonl"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"mnist-loop: {last_event(tmp_path / 'run.jsonl')['why']}\n" == said


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, signal.SIGHUP, signal.SIGINT],
    ids=["kill -9", "SIGHUP", "Ctrl-C"],
)
def test_the_workers_end_with_the_comparison(tmp_path: Path, temporary: Path, number: signal.Signals) -> None:
    """Whatever ends it, in the middle of a step that never does; all but kill -9 leave no folder either."""
    checkout(tmp_path / "busy", "        open('reached', 'w').close()\n        while True: pass\n")
    command = [sys.executable, "-m", "mnist_loop", "compare", ".", "./busy", *QUICK]
    with running(command, cwd=tmp_path) as process:
        end = time.monotonic() + LONG_S
        while not (tmp_path / "reached").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 3
        process.send_signal(number)
        process.communicate(timeout=LONG_S)
    _, alive = psutil.wait_procs(workers, timeout=LONG_S)
    try:
        assert alive == []
    finally:
        for worker in alive:
            worker.kill()
    if number != signal.SIGKILL:
        assert list(temporary.iterdir()) == []
        assert process.returncode == 130
