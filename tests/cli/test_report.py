"""``mnist-loop report``: what is printed and written, what is refused, exit codes, and that torch is not needed."""

import argparse
import io
import re
import subprocess
import sys

import pytest

from mnist_loop.cli import report
from mnist_loop.errors import UserError
from tests import results_maker


def call(*arguments):
    """Run the command as the command line does."""
    parser = argparse.ArgumentParser()
    report.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["report", *map(str, arguments)])
    return parsed.run(parsed)


@pytest.fixture
def stored(tmp_path):
    """A folder with two sweeps, a comparison that found SLOWER, and a file that is no result."""
    folder = tmp_path / "results"
    folder.mkdir()
    results_maker.write_sweep(folder / "a.json", torch="2.4.1", batch_sizes=(64,))
    results_maker.write_sweep(folder / "b.json", torch="2.15.0", batch_sizes=(64,))
    lines = results_maker.comparison_lines(rounds=3, generations=6)
    results_maker.write_lines(folder / "compare_c.jsonl", lines)
    (folder / "foreign.json").write_text("{}")
    return folder


def test_everything_that_can_be_read_is_told(stored, capsys):
    """All tables on stdout, the refused file on stderr with its reason, exit code 0."""
    assert call(stored) == 0
    out, err = capsys.readouterr()
    for shown in (
        "a.json",
        "b.json",
        "Compared with torch 2.4.1",
        "no difference can be told",
        "SLOWER",
        "What differs",
    ):
        assert shown in out
    assert "foreign" not in out
    assert err == (
        f"mnist-loop: {stored / 'foreign.json'}: JSON of another kind: expected a result that mnist-loop stored\n"
    )


def test_nothing_to_read_is_misuse(stored, capsys):
    """Exit code 2, each file with its reason, nothing on stdout."""
    assert call(stored / "foreign.json", stored / "missing.json") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 2
    assert "No such file" in err


@pytest.mark.parametrize(("slowdown", "code"), [(1.05, 1), (0.95, 0), (1.0, 0)])
def test_slower_fails_where_it_was_asked_for(tmp_path, slowdown, code):
    """Exit code 1 with --fail-on slower and a SLOWER verdict, never without."""
    lines = results_maker.comparison_lines(slowdown=slowdown, rounds=3, generations=6)
    file = results_maker.write_lines(tmp_path / "x.jsonl", lines)
    assert call(file) == 0
    assert call(file, "--fail-on", "slower") == code


def test_stored_sweeps_never_fail(stored):
    """What was not measured in pairs is no reason to stop a release."""
    assert call(stored / "a.json", stored / "b.json", "--fail-on", "slower") == 0


@pytest.mark.parametrize(("name", "start"), [("t.md", "### "), ("t.csv", "kind,file,"), ("new/t.txt", "a.json\n")])
def test_the_ending_says_what_is_written(stored, tmp_path, capsys, name, start):
    """-o FILE writes what FILE is for, in a folder that need not be there; stderr says so."""
    assert call(stored, "-o", tmp_path / name) == 0
    assert (tmp_path / name).read_text().startswith(start)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == f"written: {tmp_path / name}"


def test_an_ending_that_says_nothing_is_misuse(stored, tmp_path):
    """One sentence with what would do; --format helps."""
    with pytest.raises(UserError, match=r"x\.pdf: .* expected \.html, .* or --format"):
        call(stored, "-o", tmp_path / "x.pdf")
    assert call(stored, "-o", tmp_path / "x.pdf", "--format", "csv") == 0


def test_an_old_terminal_gets_what_it_can_show(stored, monkeypatch):
    """ASCII alone: the rest is spelt out, in tables and in what other modules return."""
    for form in ("terminal", "markdown", "csv"):
        stream = io.TextIOWrapper(io.BytesIO(), "ascii")
        monkeypatch.setattr(sys, "stdout", stream)
        assert call(stored, "--format", form) == 0
        stream.flush()


def test_a_closed_stdout_is_no_error(stored, monkeypatch):
    """A program may be started without one; the exit code is what is asked for."""
    monkeypatch.setattr(sys, "stdout", None)
    assert call(stored, "--fail-on", "slower") == 1


def test_no_torch_is_imported(stored):
    """All of it, with tables of every format, in a fresh process."""
    program = (
        "import argparse, sys\n"
        "from mnist_loop.cli import report\n"
        "parser = argparse.ArgumentParser()\n"
        "report.add_parser(parser.add_subparsers())\n"
        "import mnist_loop.report.exports\n"
        "for form in ('terminal', 'markdown', 'csv'):\n"
        "    parsed = parser.parse_args(['report', sys.argv[1], '--format', form])\n"
        "    assert parsed.run(parsed) == 0\n"
        "assert not {'torch', 'torchvision'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(stored)], check=True, stdout=subprocess.DEVNULL)


def test_report_and_measure_meet_in_a_file_alone(request):
    """No module of report/ or statistics/ imports torch, or what measures and observes."""
    package = request.config.rootpath / "mnist_loop"
    imports = re.compile(r"^\s*(?:from|import) (torch\b|mnist_loop\.(?:measure|observe)\b)", re.MULTILINE)
    files = [file for room in ("report", "statistics") for file in (package / room).rglob("*.py")]
    assert len(files) > 20
    assert [file.name for file in files if imports.search(file.read_text())] == []


def test_a_thousand_results_are_one_report(tmp_path, capsys):
    """All of them are read and told; how fast is for people to see, and not for a test to judge."""
    for number in range(1000):
        results_maker.write_sweep(
            tmp_path / f"{number}.json", batch_sizes=(64,), parts=("step",), rounds=6, seed=number
        )
    assert call(tmp_path) == 0
    out, err = capsys.readouterr()
    assert "1000 runs of a-cpu-2cpu-1a2b3c" in out
    assert err == ""
