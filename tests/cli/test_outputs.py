"""What a command writes takes the place of its own alone: inputs and other people's files are refused unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_loop.cli import main
from mnist_loop.errors import UserError
from mnist_loop.support.files import check_output, write_atomically
from mnist_loop.verdict.formats import FORMATS
from tests.results_maker import comparison_lines, sweep_document, write_lines

REPORTS = ("markdown", "csv", "html", "terminal", "github", "bencher")
COMMANDS = {
    **{f"report {kind}": ["report", "s.json", "--format", kind, "-o"] for kind in REPORTS},
    "verify": ["verify", "nowhere.py:train", "--json"],
    **{f"verify {kind}": ["verify", "nowhere.py:train", "--format", kind, "-o"] for kind in FORMATS},
    "train": ["train", "--data", "nowhere", "--save"],
    "compare": ["compare", ".", ".", "--data", "nowhere", "-o"],
}
SWEEP, COMPARISON = json.dumps(sweep_document()), "\n".join(map(json.dumps, comparison_lines(rounds=1)))
FOREIGN = {
    "notes": b"my notes",
    "Markdown": b"### Results\n\n| device | images/s |\n|---|---:|\n",
    "CSV": b"kind,file,when\nmeasurement,a,b\n",
    "a page": b"<!doctype html>\n<title>mnist-loop report</title>\n",
    "a program": b"def train():\n    '''written by mnist-loop report'''\n",
    "JSON": b"{}",
    "a list": b"[]",
    "another list of values": b'[{"name": "a", "unit": "images/s", "value": 1, "range": "", "extra": ""}]',
    "another object of measures": b'{"a benchmark": {"throughput": {"value": 1}}}',
    "a sweep": SWEEP.encode(),
    "a comparison": COMPARISON.encode(),
    "nested deeply": b"[" * 100_000,
    "bytes": bytes(range(256)),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stored sweep."""
    monkeypatch.chdir(tmp_path)
    Path("s.json").write_text(json.dumps(sweep_document(batch_sizes=(64,))))
    return tmp_path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Run a command, which must leave the file that is last of its arguments as it is and say so in one sentence."""

    def run(*arguments: str, says: str) -> None:
        path = Path(arguments[-1])
        before = path.read_bytes() if path.is_file() else None
        capsys.readouterr()
        assert main(list(arguments)) == 2
        assert (path.read_bytes() if path.is_file() else None) == before
        said = capsys.readouterr()
        assert said.err.startswith(f"mnist-loop: {path}: {says}"), said.err
        assert said.err.count("\n") == 1
        assert said.out == ""

    return run


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_file_that_is_not_ours_is_refused_before_any_work(command: list[str], refused: Callable[..., None]) -> None:
    """Data, loops and arms that are not there are not even looked for."""
    for content in FOREIGN.values():
        Path("x.out").write_bytes(content)
        refused(*command, "x.out", says="is there already")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_what_is_no_file_is_refused(command: list[str], refused: Callable[..., None]) -> None:
    """A pipe, a link to one and a folder are neither written nor replaced by a file."""
    os.mkfifo("pipe")
    Path("folder.d").mkdir()
    Path("link").symlink_to("pipe")
    for name in ("pipe", "link"):
        refused(*command, name, says="is no regular file")
    assert Path("pipe").is_fifo()
    refused(*command, "folder.d", says="is a folder")


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_takes_the_place_of_a_report(kind: str) -> None:
    """The same command again, and one for another format; an empty file is nobody's."""
    path = Path("empty.out")
    path.touch()
    for _ in range(2):
        assert main(["report", "s.json", "--format", kind, "-o", str(path)]) == 0
    first = path.read_bytes()
    assert main(["report", "s.json", "--format", "csv", "-o", str(path)]) == 0
    assert main(["report", "s.json", "--format", kind, "-o", str(path)]) == 0
    assert path.read_bytes() == first


def test_a_report_of_a_comparison_takes_the_place_of_one() -> None:
    """In each format that has comparisons."""
    write_lines(Path("c.jsonl"), comparison_lines(rounds=2, generations=5))
    for kind in ("markdown", "csv", "terminal", "github", "bencher"):
        for _ in range(2):
            assert main(["report", "c.jsonl", "--format", kind, "-o", f"{kind}.out"]) == 0


@pytest.mark.parametrize("name", ["s.json", "./s.json", "link.json", "hard.json"])
def test_an_input_is_no_output(name: str, refused: Callable[..., None]) -> None:
    """By whatever name."""
    Path("link.json").symlink_to("s.json")
    Path("hard.json").hardlink_to("s.json")
    for kind in REPORTS:
        refused("report", "s.json", "--format", kind, "-o", name, says="")


def test_an_input_is_no_output_even_where_it_is_ours_or_empty(refused: Callable[..., None]) -> None:
    """The one is a report that is given as a result, the others are what `verify` reads."""
    assert main(["report", "s.json", "-o", "x.csv"]) == 0
    refused("report", "s.json", "x.csv", "-o", "x.csv", says="is read here")
    Path("empty").touch()
    refused("verify", "a.py:b", "--expect-failures", "empty", "--json", "empty", says="is read here")
    refused("verify", "empty:train", "--json", "empty", says="is read here")
    refused("verify", "a.py:b", "--evaluate", "empty:test", "--json", "empty", says="is read here")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plots_take_the_place_of_plots(ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And of no other picture: then none is written, and nothing is told."""
    for _ in range(2):
        assert main(["report", "s.json", "--plots", "plots"]) == 0
    first = sorted(Path("plots").iterdir())
    mine = next(path for path in reversed(first) if path.suffix == f".{ending}")
    for path in first:
        path.unlink()
    mine.write_bytes(b"a picture of mine")
    capsys.readouterr()
    assert main(["report", "s.json", "--plots", "plots"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"mnist-loop: {mine}: is there already")
    assert list(Path("plots").iterdir()) == [mine]
    assert mine.read_bytes() == b"a picture of mine"


def test_a_comparison_is_not_compressed_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Its reader would take it for something that is."""
    assert main(["compare", ".", ".", "-o", "run.jsonl.gz"]) == 2
    assert "run.jsonl.gz: is written as it is measured, and not compressed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"], ids=["too long", "null"])
def test_a_name_that_cannot_be_is_one_sentence(name: str) -> None:
    """What the system says of it."""
    with pytest.raises(UserError, match="cannot be written"):
        check_output(Path(name))


def test_what_is_checked_is_what_is_written() -> None:
    """A link stays a link, to the file that was looked at."""
    Path("target").write_bytes(b"old")
    Path("link").symlink_to("target")
    write_atomically(Path("link"), b"new")
    assert Path("link").is_symlink()
    assert Path("target").read_bytes() == b"new"


# A place that cannot be written, of an output at the end of long work

LONG_WORK = {
    "bench": (["bench"], ".benchmarks/result.json"),
    "compare": (["compare", ".", ".:threads=2"], ".benchmarks/comparison.jsonl"),
    "compare -o": (["compare", ".", ".:threads=2", "-o", "out/run.jsonl"], "out/run.jsonl"),
    "verify": (["verify", "nowhere.py:train", "-o", "out/verdict.json"], "out/verdict.json"),
    "check": (["check", "--format", "json", "-o", "out/verdict.json", "train.py"], "out/verdict.json"),
}
IN_FULL_PLACE = """
import resource, sys
from mnist_loop.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
code = main({command})
assert 'torch' not in sys.modules
sys.exit(code)
"""


@pytest.mark.parametrize(("command", "file"), LONG_WORK.values(), ids=LONG_WORK)
def test_a_file_in_the_folders_place_is_refused_first(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], file: str
) -> None:
    """Exit code 2 and one sentence, before anything is tried or measured."""
    (folder / "train.py").write_text("raise SystemExit('it ran')")
    (folder / file).parent.write_text("a file")
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"mnist-loop: {file}: ")
    assert err.count("\n") == 1
    assert (folder / file).parent.read_text() == "a file"


@pytest.mark.parametrize(("command", "file"), LONG_WORK.values(), ids=LONG_WORK)
def test_a_full_disk_is_refused_first(folder: Path, command: list[str], file: str) -> None:
    """Before torch is imported; nothing is left there."""
    (folder / "train.py").write_text("raise SystemExit('it ran')")
    (folder / file).parent.mkdir()
    code = IN_FULL_PLACE.format(command=command)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr == (
        f"mnist-loop: {file}: cannot be written (File too large), expected a folder with room for it: "
        "write it elsewhere\n"
    )
    assert list((folder / file).parent.iterdir()) == []
