"""The file of a comparison that is gone on with: checked before it is written to, and by one process at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_loop.cli import main
from mnist_loop.compare.journal import Journal, reopen
from mnist_loop.errors import UserError
from tests.results_maker import comparison_lines

HEAD, *EVENTS = [json.dumps(line) for line in comparison_lines(rounds=1, generations=2)]
OURS = "\n".join([HEAD, *EVENTS]) + "\n"
CONTINUED = '{"event": "continued", "at": 1.0}\n'

FOREIGN = {
    "notes": "my notes, without a line's end",
    "notes of several lines": "my notes\nof two lines\nand a half",
    "nothing": "",
    "a sweep": '{"benchmarks": []}',
    "JSON of another kind": '{"event": "block"}\n{"event": "end"}',
    "a comparison of a later version": HEAD.replace('"mnist_loop_comparison": 1', '"mnist_loop_comparison": 2') + "\n",
    "a head that was cut short": HEAD[:40],
    "nested deeply": "[" * 100_000,
    "no UTF-8": "\xff\xfe",
    "notes after a comparison": OURS + "my notes",
    "notes within a comparison": OURS + "my notes\n" + EVENTS[0] + "\n",
    "JSON after a comparison": OURS + "[1, 2]",
    "an object after a comparison": OURS + '{"name": 1}',
    "zeros after a comparison, as a power cut leaves them": OURS + "\0\0\0",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_refused_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    """Exit code 2, one sentence, and each byte is where it was."""
    path = tmp_path / "notes.txt"
    before = content.encode("latin-1")
    path.write_bytes(before)
    assert main(["compare", "--continue", str(path)]) == 2
    assert path.read_bytes() == before
    said = capsys.readouterr().err
    assert said.startswith(f"mnist-loop: {path}: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    """A pipe is not waited for."""
    path = tmp_path / kind
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(UserError, match="no regular file, expected a comparison"):
        reopen(path)


def test_only_a_record_that_was_cut_short_is_cut(tmp_path: Path) -> None:
    """Wherever a kill cuts the last record, it alone is gone, and one that lacks nothing but its line's end is kept."""
    path, last = tmp_path / "run.jsonl", EVENTS[-1]
    before = OURS.removesuffix(f"{last}\n")
    for length in range(len(last) + 1):
        content, whole = before + last[:length], OURS if length == len(last) else before
        path.write_text(content)
        journal, _, events = reopen(path)
        assert [json.dumps(event) for event in events] == whole.splitlines()[1:]
        assert path.read_text() == content, "nothing is written before something is added"
        journal.mend()
        journal.write(json.loads(CONTINUED))
        journal.close()
        assert path.read_text() == whole + CONTINUED


def test_a_file_has_one_writer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While a comparison is measured or gone on with, `--continue` of its file is refused; afterwards it is not."""
    path = tmp_path / "run.jsonl"
    first = Journal(path, json.loads(HEAD.replace('"mnist_loop_comparison": 1, ', "")))
    for writer in (first, None):
        opened = writer or reopen(path)[0]
        before = path.read_bytes()
        assert main(["compare", "--continue", str(path)]) == 2
        assert f"{path}: another process writes it" in capsys.readouterr().err
        assert path.read_bytes() == before
        opened.close()
    reopen(path)[0].close()


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    """However a process ends, and whatever it had started lives on, the next one may write."""
    path = tmp_path / "run.jsonl"
    path.write_text(OURS)
    program = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from mnist_loop.compare.journal import reopen\n"
        "journal, _, _ = reopen(Path(sys.argv[1]))\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        with pytest.raises(UserError, match="another process writes it"):
            reopen(path)
        process.kill()
        process.wait()
        reopen(path)[0].close()
        os.kill(child, signal.SIGKILL)  # which fails if it has not lived on
