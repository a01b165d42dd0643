"""``mnist-loop verify`` from end to end: text, JSON, exit codes, expected failures; and what a loop may do to it."""

import contextlib
import dataclasses
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

import mnist_loop.verification.verify as verifying
from mnist_loop.cli import main
from mnist_loop.cli.verify import _bar
from mnist_loop.errors import UserError
from mnist_loop.verdict.expected import read_expected
from mnist_loop.verdict.finding import Finding, Judgement
from mnist_loop.verdict.snippet import Asked
from mnist_loop.verdict.text import REMINDER
from mnist_loop.verdict.verdict import Verdict
from mnist_loop.verification.cases.battery import battery
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.options import Options
from tests import verdicts
from tests.loops.mutants import MUTANTS
from tests.programs import children, running
from tests.verdicts import SHORT

LOOPS = '''
import os
import re
import sys
import time


def train(model, train_loader, loss_fn, optimizer):
    """A loop that is right."""
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()


def broken(model, train_loader, loss_fn, optimizer):
    model.train()
    for images, labels in train_loader:
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()


def test(model, test_loader, loss_fn):
    """What evaluates leaves the model in train mode, on purpose: with it, there is a bug."""
    model.train()
    return float(sum(loss_fn(model(images), labels) * len(labels) for images, labels in test_loader))


def overflows(model, train_loader, optimizer):
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        (model(images) * 1e300).square().mean().backward()
        optimizer.step()


def raises(model, train_loader, loss_fn, optimizer):
    for images, labels in train_loader:
        raise ValueError("not \\x1b[2J today")


def raises_in_some_case(model, train_loader, loss_fn, optimizer):
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images), labels.view(4)).backward()
        optimizer.step()


def returns_nonsense(model, train_loader, loss_fn, optimizer):
    train(model, train_loader, loss_fn, optimizer)
    return object(), lambda: 1, {"loss": float("nan"), b"x": {1: sys}}


def idle(model, train_loader, loss_fn, optimizer):
    pass


def hangs(model, train_loader, loss_fn, optimizer):
    print("before it hangs", flush=True)
    open("hanging", "w").close()
    while True:
        time.sleep(0.01)


def exits(model, train_loader, loss_fn, optimizer):
    sys.exit(0)


def prints(model, train_loader, loss_fn, optimizer):
    print("hello from the loop")
    train(model, train_loader, loss_fn, optimizer)


def unbound(model, train_loader, wibble):
    pass
'''
ONLY = ("--only", "zero-grad-missing,trains-nothing,loop-raises", "--cases", "0")


class Result(NamedTuple):
    """What a run left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder but for some loops, in which no run leaves a file or a process."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_train.py").write_text(LOOPS, encoding="utf-8")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = children()
    yield tmp_path
    assert children() <= before


@pytest.fixture
def verify():
    """Run ``mnist-loop verify`` in this process."""

    def verify(*options):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(["verify", *map(str, options)])
            except SystemExit as stop:  # as argparse ends
                code = stop.code
        assert "Traceback" not in out.getvalue() + err.getvalue()
        return Result(code, out.getvalue(), err.getvalue())

    return verify


@pytest.fixture
def short(monkeypatch):
    """Let verifying end after the first experiments: what is said of them does not depend on how many there are."""
    monkeypatch.setattr(verifying, "battery", lambda *given: battery(*given)[:SHORT])


@pytest.fixture
def pretend(monkeypatch):
    """Return a function that has verifications end with these findings, and returns what they are called with."""

    def do(*findings, **attributes):
        calls = []

        def verify(loop, evaluate=None, options=None, **declared):
            calls.append((loop, evaluate, options, declared))
            judgement = Judgement(Case(), [Finding(bug, 0, "it shows", Case()) for bug in findings], ["graph-leak"])
            return Verdict(
                "my_train.py:train", asked=Asked(loop, declared=declared), judgements=[judgement], **attributes
            )

        monkeypatch.setattr(verifying, "verify", verify)
        return calls

    return do


def assert_one_sentence(result, *fragments):
    """Misuse: exit code 2, nothing on stdout and one line on stderr."""
    assert result.code == 2
    assert result.out == ""
    assert_one_line(result.err, *fragments)


def assert_one_line(err, *fragments):
    assert err.startswith("mnist-loop")
    assert err.count("\n") == 1
    for fragment in fragments:
        assert fragment in err


def pasted(snippet):
    """Return what a snippet prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(snippet, "snippet", "exec"), {})  # noqa: S102  # our own
    return printed.getvalue()


# What it finds


@pytest.mark.usefixtures("short")
def test_a_right_loop_is_clean(verify):
    """Exit code 0; a header, laws, the last line; stderr is empty where it is no terminal."""
    result = verify("my_train.py:train", *ONLY, "--evaluate", "none")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].startswith("loop: my_train.py:train · evaluation: none · torch ")
    assert lines[2].startswith("no bug, 3 laws hold")
    assert lines[3] == REMINDER
    assert result.err == ""


@pytest.mark.usefixtures("short")
def test_a_bug_is_named_and_its_snippet_shows_it_again(verify, folder):
    """Exit code 1; id, line, fix; the code that is to be pasted runs in the same folder and prints the evidence."""
    result = verify("my_train.py:broken", *ONLY, "--json", "out.json")
    assert result.code == 1
    lines = result.out.splitlines()
    start = lines.index("zero-grad-missing: gradients of earlier batches are applied again")
    evidence = lines[start + 1].strip()
    assert lines[start + 2] == "  Most likely: call optimizer.zero_grad() once per batch, before loss.backward()."
    number = (
        LOOPS.splitlines().index(
            "        loss.backward()", LOOPS.splitlines().index("def broken(model, train_loader, loss_fn, optimizer):")
        )
        + 1
    )
    assert lines[start + 3] == f"  my_train.py:{number}:         loss.backward()"
    (found,) = json.loads((folder / "out.json").read_text())["diagnoses"]
    assert found["text"] == evidence
    assert found["location"]["line"] == number
    assert all(f"      {line}".rstrip() in lines for line in found["snippet"].splitlines())
    assert pasted(found["snippet"]) == f"{evidence}\n"


@pytest.mark.parametrize("bug", ["split-leak", "selects-on-test", "resume-incomplete", "retain-graph", "no-batches"])
def test_what_shows_in_one_run_beside_another_is_shown_again(bug):
    """In the one case of the snippet: with other test data, resumed, watched, or with fewer samples than a batch."""
    mutant = next(mutant for mutant in MUTANTS if mutant.bug == bug)
    usual = dataclasses.replace(verdicts.on_mutant(mutant.name), asked=Asked(mutant.spec))
    (found,) = (diagnosis for diagnosis in usual.diagnoses if diagnosis.id == bug)
    assert pasted(usual.snippet(found)) == f"{found.finding.text}\n"


@pytest.mark.usefixtures("short")
def test_the_evaluation_is_found_given_or_none(verify):
    """Beside the loop, by name, or none."""
    for options, says in (
        ((), "evaluation: test (found beside it)"),
        (("--evaluate", "my_train.py:test"), "evaluation: my_train.py:test"),
        (("--evaluate", "none"), "evaluation: none"),
    ):
        result = verify("my_train.py:train", "--only", "evaluates-in-train-mode", "--cases", "0", *options)
        assert f" · {says}" in result.out.splitlines()[0]
        assert result.code == 1  # a bug with it; without it nothing was run
        assert ("nothing was run" in result.out) == (says == "evaluation: none")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("in_process", [False, True], ids=["isolated", "in process"])
def test_json_on_stdout_is_all_there_is(verify, in_process):
    """Whatever the loop prints; the last line of the text is on stderr."""
    result = verify("my_train.py:prints", *ONLY, "--json", *(["--in-process"] if in_process else []))
    found = json.loads(result.out)
    assert (result.code, found["exit_code"], found["verdict"], found["primary"]) == (0, 0, "clean", None)
    assert result.err.splitlines()[-1].startswith("no bug, 3 laws hold")
    assert ("hello from the loop" in result.err) == in_process
    assert ("hello from the loop" in found["output"]) == (not in_process)


@pytest.mark.usefixtures("short")
def test_no_library_prints_into_the_json(verify, capfd):
    """MKL says on stdout that a system of equations is not finite: none such is asked of it."""
    verify("my_train.py:overflows", "--only", "loss-differs,normalised-differently", "--cases", "0", "--json")
    assert capfd.readouterr().out == ""


# How it is asked


def test_all_options_reach_the_verification(verify, pretend, folder):
    """And those that are not given are as usual."""
    calls = pretend()
    (folder / "known.txt").write_text("")
    assert verify("a.py:b").code == 0
    options = "--timeout 5 --cases 0 --seed 7 --in-process --only loss-sum,graph-leak --declare clip=1 --declare"
    assert (
        verify("a.py:b", "--evaluate", "c:d", *options.split(), "keeps-best", "--expect-failures", "known.txt").code
        == 0
    )
    (loop, evaluate, given, declared), (_, other, asked, meant) = calls
    usual = Options()
    for name in ("random_cases", "seed", "timeout", "device", "in_process", "laws", "cases"):
        assert getattr(given, name) == getattr(usual, name)
    assert (loop, evaluate, declared) == ("a.py:b", None, {})
    assert (asked.timeout, asked.random_cases, asked.seed, asked.in_process) == (5.0, 0, 7, True)
    assert asked.laws == ("loss-sum", "graph-leak")
    assert (other, meant) == ("c:d", {"clip": 1.0, "keeps_best": True})


def test_an_evaluation_may_be_declared(verify, pretend):
    """As with --evaluate."""
    calls = pretend()
    assert verify("a.py:b", "--declare", "evaluate=c:d").code == 0
    assert calls[0][1] == "c:d"


def test_a_loop_behind_json_is_the_loop(verify, pretend):
    """`verify --json my_train.py:train`: argparse takes it for the file."""
    calls = pretend()
    assert json.loads(verify("--json", "my_train.py:train").out)["loop"] == "my_train.py:train"
    assert calls[0][0] == "my_train.py:train"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "no loop found"),
        (["a:b", "-o", "x.pdf"], "x.pdf: its ending names no format"),
        (["a:b", "-o", "no/such.json"], "no/such.json: there is no folder no"),
        (["a:b", "--format", "yaml"], "invalid choice: 'yaml'"),
        (["a:b", "--format", "text", "--json"], "--json and --format text found"),
        (["a:b", "-o", "x.json", "--json", "./x.json"], "x.json: found as two outputs"),
        (["--json"], "no loop found"),
        (["a:b", "--declare", "clop=1"], "did you mean clip?"),
        (["a:b", "--declare", "clip=x"], "clip='x'"),
        (["a:b", "--declare", "evaluate=c:d", "--evaluate", "e:f"], "--evaluate"),
        (["a:b", "--only", "los-sum"], "did you mean loss-sum?"),
        (["a:b", "--only", ""], "expected the id of a bug"),
        (["a:b", "--only", "replica-bypassed"], "'replica-bypassed'"),
        (["a:b", "--cases", "-1"], "at least 0"),
        (["a:b", "--cases", "9" * 5000], "at most"),
        (["a:b", "--timeout", "0"], "a number above 0"),
        (["a:b", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["a:b", "--expect-failures", "no.txt"], "no.txt: cannot be read"),
        (["a:b", "--json", "."], ".: is a folder"),
        (["a:b", "--json", "no/such.json"], "no/such.json: there is no folder no"),
        (["--explain", "zero-grad"], "'zero-grad'"),
    ],
)
def test_misuse_is_one_sentence_before_anything_runs(verify, pretend, options, says):
    """Exit code 2; nothing is verified."""
    calls = pretend()
    assert_one_sentence(verify(*options), says)
    assert calls == []


def test_a_device_that_is_not_there_is_refused(verify, monkeypatch):
    """Before the loop is looked at."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_one_sentence(verify("no_such:loop", "--device", "cuda"), "device 'cuda': not on this machine")


# Expected failures


@pytest.mark.parametrize(
    ("known", "found", "code"),
    [
        ("", (), 0),
        ("", ("loss-sum",), 1),
        ("loss-sum: known", ("loss-sum",), 0),
        ("loss-sum: known", ("loss-sum", "step-double"), 1),
        ("loss-sum: known", (), 1),
        ("graph-leak: known", (), 1),
        ("", ("retain-graph",), 0),
    ],
)
def test_expected_failures_are_strict(verify, pretend, folder, known, found, code):
    """A bug that is expected fails nothing; one that is not does, and so does an expected one that does not occur."""
    (folder / "known.txt").write_text(f"# of this loop\n{known}\n")
    pretend(*found)
    result = verify("my_train.py:train", "--expect-failures", "known.txt")
    assert result.code == code
    expected = known.partition(":")[0]
    assert (f"known.txt, line 2: {expected}: " in result.out) == (bool(known) and expected not in found)


def test_an_unknown_expected_failure_is_misuse(verify, pretend, folder):
    """With the file and the line."""
    calls = pretend()
    (folder / "known.txt").write_text("\nloss-sun: known\n")
    assert_one_sentence(
        verify("a:b", "--expect-failures", "known.txt"), "known.txt, line 2: 'loss-sun' found", "loss-sum?"
    )
    assert calls == []


# What is ignored, and what a project sets


@pytest.mark.usefixtures("short")
def test_a_comment_in_the_source_silences(verify, folder):
    """It is counted, the exit code is 0; random cases are tried as for a right loop, and the snippet is left out."""
    marked = "        loss.backward()  # mnist-loop: ignore[zero-grad-missing]\n        optimizer.step()\n\n\ndef test("
    source = LOOPS.replace("        loss.backward()\n        optimizer.step()\n\n\ndef test(", marked)
    (folder / "my_train.py").write_text(source, encoding="utf-8")
    result = verify("my_train.py:broken", "--evaluate", "none", "--cases", "2")
    assert result.code == 0
    assert "\nno bug, 1 ignored, " in result.out
    assert "2 random from seed 0)" in result.out.splitlines()[0]
    assert verify("my_train.py:broken", *ONLY).code == 0
    (folder / "my_train.py").write_text(source.replace("zero-grad-missing]", "zero-grad-mising]"), encoding="utf-8")
    result = verify("my_train.py:broken", *ONLY)
    assert result.code == 1
    assert "did you mean zero-grad-missing?" in result.out


def test_a_project_sets_what_the_command_line_does_not(verify, pretend, folder):
    """Ignored and expected bugs, intentions and the format; each option comes before the file."""
    calls = pretend("loss-sum", "step-double")
    (folder / "known.txt").write_text("loss-sum: known\nstep-double: known\n")
    (folder / "pyproject.toml").write_text(
        '[tool.mnist_loop]\nignore = ["loss-sum"]\nexpected-failures = {step-double = "on purpose"}\n'
        'declare = {clip = 1.0, accumulate = 4, evaluate = "x:y"}\nformat = "json"\n'
    )
    result = verify("my_train.py:train")
    assert result.code == 0
    found = json.loads(result.out)
    assert {one["id"]: (one["ignored"], one["expected"]) for one in found["diagnoses"]} == {
        "step-double": (None, True),
        "loss-sum": ("pyproject.toml", False),
    }
    options = ("--declare", "clip=2", "--evaluate", "c:d", "--format", "text", "--expect-failures", "known.txt")
    result = verify("my_train.py:train", *options)
    assert result.code == 0
    assert "2 expected failures" in result.out
    (_, usual, _, declared), (_, evaluate, _, given) = calls
    assert (usual, declared) == ("x:y", {"clip": 1.0, "accumulate": 4})
    assert (evaluate, given) == ("c:d", {"clip": 2.0, "accumulate": 4})


@pytest.mark.parametrize("line", ["ignored = []", 'declare = {clip = "x"}', 'format = "yaml"', "ignore = ["])
def test_a_wrong_setting_is_misuse(verify, pretend, folder, line):
    """With the file; what runs nothing does not read it."""
    calls = pretend()
    (folder / "pyproject.toml").write_text(f"[tool.mnist_loop]\n{line}\n")
    assert_one_sentence(verify("a:b"), "mnist-loop: pyproject.toml: ")
    assert calls == []
    assert verify("--explain", "loss-sum").code == 0


# What a loop may do


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("my_trian.py:train", "did you mean my_train.py?"),
        ("my_train.py:trian", "did you mean train?"),
        ("no_such.module:train", "no_such.module"),
    ],
)
def test_a_spec_that_does_not_resolve_is_one_sentence(verify, spec, says):
    """Exit code 2, with what was probably meant."""
    assert_one_sentence(verify(spec), says)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_thing", "it has none (not installed: no_such_thing; a loop that uses it cannot be tried)"),
        ("raise ImportError('no GPU')", "ImportError: no GPU"),
        ("def train(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "exit()"),
        ("import os; os._exit(3)", "os._exit(3)"),
        ("while True: pass", "0.5 s"),
    ],
)
def test_a_module_that_fails_at_import_is_one_sentence(verify, folder, source, says):
    """Exit code 2, whichever way it fails."""
    (folder / "bad.py").write_text(f"{source}\n")
    assert_one_sentence(verify("bad.py:train", "--timeout", "0.5"), says, "bad.py")


@pytest.mark.parametrize(
    ("name", "source", "command"),
    [
        ("lesson.py", "for _ in range(3): pass", "mnist-loop check lesson.py"),
        ("my lesson.py", "while True: pass", "mnist-loop check 'my lesson.py'"),
        ("lesson.ipynb", '{"cells": []}', "mnist-loop check lesson.ipynb"),
    ],
)
def test_a_file_that_trains_when_it_runs_is_for_check(verify, folder, name, source, command):
    """A script, with and without an end, and a notebook: the sentence has the command to type."""
    (folder / name).write_text(f"{source}\n")
    assert_one_sentence(verify(name, "--timeout", "0.5"), name, command)


def test_a_loop_that_cannot_be_bound_shows_an_adapter(verify):
    """Exit code 2: the signature found, the names known, three lines to paste."""
    result = verify("my_train.py:unbound")
    assert (result.code, result.out) == (2, "")
    assert "unbound(model, train_loader, wibble)" in result.err
    assert "return unbound(model=model, train_loader=train_loader, wibble=...)" in result.err


@pytest.mark.usefixtures("short")
def test_a_loop_that_raises_always_was_not_tried(verify):
    """Exit code 2: the error and its line, without an escape sequence, an adapter, and the other command."""
    result = verify("my_train.py:raises", *ONLY)
    assert (result.code, result.out) == (2, "")
    assert "raises was not tried: in the plainest case, in float64 and in float32, training raised" in result.err
    assert ": raise ValueError(" in result.err
    assert "mnist-loop check my_train.py" in result.err
    assert "\x1b" not in result.err


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("name", "bug", "shows"),
    [
        ("raises_in_some_case", "loop-raises", "RuntimeError"),
        ("idle", "trains-nothing", ""),
        ("exits", "loop-exits", "exit(0)"),
        ("hangs", "loop-hangs", "1 s"),
    ],
)
def test_a_loop_that_fails_has_that_for_its_bug(verify, name, bug, shows):
    """Exit code 1: it raises in some case, trains no step, exits, hangs."""
    result = verify(f"my_train.py:{name}", *ONLY, "--timeout", "1")
    assert result.code == 1
    assert f"\n{bug}: " in result.out
    assert shows in result.out
    assert "\x1b" not in result.out
    assert result.err == ""
    if name == "hangs":
        assert "\n  before it hangs\n" in result.out


@pytest.mark.usefixtures("short")
def test_a_loop_that_returns_nonsense_is_judged_by_what_it_did(verify):
    """What it returned is no metric; nothing of it comes out of its process."""
    result = verify("my_train.py:returns_nonsense", *ONLY, "--json")
    assert json.loads(result.out)["verdict"] == "clean"
    assert result.code == 0


@pytest.mark.usefixtures("short")
def test_nothing_run_fails(verify):
    """A law that needs what the loop does not declare: exit code 1, and it says so."""
    result = verify("my_train.py:train", "--only", "clip-missing", "--cases", "0")
    assert result.code == 1
    assert "\nnothing was run: no law could be decided" in result.out


# Where the result goes


def test_json_in_a_file_leaves_the_text_on_stdout(verify, pretend, folder):
    """Both, of the same verdict; one that was there is replaced."""
    pretend()
    verify("my_train.py:train", "--json", "out.json")
    assert json.loads((folder / "out.json").read_text())["primary"] is None
    pretend("loss-sum")
    result = verify("my_train.py:train", "--json", "out.json")
    assert result.code == 1
    assert "\nloss-sum: " in result.out
    assert json.loads((folder / "out.json").read_text())["primary"] == "loss-sum"


def test_the_ending_or_the_option_says_the_format(verify, pretend, folder):
    """Of the file: what is printed beside it is text. Without a file, it is that of stdout."""
    pretend("loss-sum")
    result = verify("my_train.py:train", "-o", "out.json")
    assert json.loads((folder / "out.json").read_text())["primary"] == "loss-sum"
    assert "\nloss-sum: " in result.out
    verify("my_train.py:train", "--format", "text", "-o", "out.json", "--json", "other.json")
    assert (folder / "out.json").read_text() == result.out
    assert json.loads((folder / "other.json").read_text())["primary"] == "loss-sum"
    assert json.loads(verify("my_train.py:train", "--format", "json").out)["primary"] == "loss-sum"


@pytest.mark.parametrize(("kind", "has"), [("github", "::error "), ("sarif", '"2.1.0"'), ("junit", "<testsuites ")])
def test_other_programs_formats_are_all_that_is_printed(verify, kind, has):
    """Whatever the loop prints; the count is on stderr."""
    result = verify("my_train.py:broken", *ONLY, "--format", kind)
    assert result.code == 1
    assert has in result.out
    assert REMINDER not in result.out
    assert result.err.startswith("1 bug, ")


def test_all_laws_are_listed_on_demand(verify, pretend):
    """After the count."""
    pretend("loss-sum")
    assert "graph-leak" not in verify("my_train.py:train").out
    result = verify("my_train.py:train", "--all").out
    assert result.index(REMINDER) < result.index("graph-leak")


def test_a_full_disk_loses_no_text(verify, pretend, folder, monkeypatch):
    """The JSON cannot be written: exit code 2, the text is there, the old file too, and no part of a new one."""
    pretend()
    verify("my_train.py:train", "--json", "out.json")
    old = (folder / "out.json").read_bytes()
    before = sorted(folder.iterdir())

    synced = []

    def full_at_the_end(file):
        synced.append(file)
        if len(synced) > 1:  # there is room at the start, when it is tried
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mnist_loop.support.files.os.fsync", full_at_the_end)
    result = verify("my_train.py:train", "--json", "out.json")
    assert result.code == 2
    assert_one_line(result.err, "out.json", "No space left on device")
    assert result.out.endswith(f"{REMINDER}\n")
    assert (folder / "out.json").read_bytes() == old
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("options", [["a:b"], ["a:b", "--json"], ["--list"], ["--explain", "loss-sum"]])
def test_a_closed_stdout_is_no_error(pretend, monkeypatch, options):
    """`mnist-loop verify >&-`: there is nobody to tell; so with stderr."""
    pretend()
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["verify", *options]) == 0


@pytest.mark.parametrize("options", [["a:b"], ["a:b", "--json"], ["--list"], ["--explain", "loss-sum"]])
def test_a_closed_pipe_ends_it_quietly(pretend, monkeypatch, options):
    """`mnist-loop verify ... | head -1`: 141, as a shell expects, and no word."""
    pretend()
    reader, writer = os.pipe()
    os.close(reader)
    err = io.StringIO()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with contextlib.redirect_stderr(err):
            assert main(["verify", *options]) == 141
    monkeypatch.undo()
    assert "Error" not in err.getvalue()
    assert "mnist-loop:" not in err.getvalue()


def test_progress_is_shown_on_a_terminal_alone(pretend, monkeypatch):
    """On stderr, and gone when the result comes; cases are counted where they can be."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    pretend()
    threads = threading.active_count()
    out, err = io.StringIO(), Terminal()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main(["verify", "a:b"]) == 0
        with _bar() as (_, on_case):
            assert threading.active_count() == threads  # what one of them holds, a forked child waits for in vain
            on_case(3, 31)
    assert "verifying" in err.getvalue()
    assert "case 3 of 31" in err.getvalue()
    assert "verifying" not in out.getvalue()


# As a program of its own


@pytest.mark.parametrize("options", [["--help"], ["--list"], ["--explain", "loss-sum"]])
def test_what_runs_nothing_does_not_wait_for_torch(options):
    """The list of bugs is there at once."""
    code = (
        "import sys\nfrom mnist_loop.cli import main\n"
        f"try:\n    main(['verify', *{options!r}])\nexcept SystemExit:\n    pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'hypothesis')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout


def hanging(pid):
    """Return the processes of a verification, once one of them has written that it hangs, where it works."""
    children = psutil.Process(pid).children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.Error):  # it has just ended
            if Path(child.cwd(), "hanging").exists():
                return children
    return []


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_ctrl_c_ends_a_run_and_its_child(folder):
    """Exit code 130, one word, no traceback, and the process in which the loop hung is gone."""
    command = [sys.executable, "-m", "mnist_loop", "verify", "my_train.py:hangs", "--timeout", "600"]
    with running(command) as process:
        while not (children := hanging(process.pid)):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err == "mnist-loop: interrupted\n"
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_the_message_of_a_user_error_keeps_its_lines(verify, monkeypatch):
    """An adapter to paste has several."""

    def verify_nothing(*_, **__):
        raise UserError("first\nsecond")

    monkeypatch.setattr(verifying, "verify", verify_nothing)
    assert verify("a:b").err == "mnist-loop: first\nsecond\n"


# What docs/verify.md says

DOCS = Path(__file__).parents[2] / "docs" / "verify.md"


def blocks(language):
    """Return the pieces of code in the docs."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [code for name, code in fenced if name == language]


def test_the_docs_show_what_is_said(verify, folder):
    """Of the loop that they begin with, the diagnosis word for word; but for the number of cases."""
    (folder / "my_train.py").write_text(blocks("python")[0], encoding="utf-8")
    transcript = blocks("")[0]
    shown = transcript[transcript.index("\nzero-grad-missing: ") : transcript.index("--explain")]
    result = verify("my_train.py:train_one_epoch")
    assert re.sub(r"of \d+ that", "of N that", shown) in re.sub(r"of \d+ that", "of N that", result.out)
    assert transcript.endswith(f"{REMINDER}\n")


@pytest.mark.slow
def test_what_the_docs_declare_finds_what_they_say(verify, folder):
    """The line with declarations, on the loop that they begin with: no other bug than those that the page names."""
    content = DOCS.read_text(encoding="utf-8")
    (folder / "my_train.py").write_text(blocks("python")[0], encoding="utf-8")
    line, found = re.search(
        r"^    mnist-loop verify (.*--declare.*)\n\nOn the loop above it finds (.*?):", content, re.M
    ).groups()
    document = json.loads(verify(*line.split(), "--json").out)
    assert {one["id"] for one in document["diagnoses"]} == set(re.findall(r"`([\w-]+)`", found))


def test_the_known_bugs_of_the_docs_are_strict(verify, folder):
    """Of the loop that they begin with one entry occurs; the other does not, and fails."""
    (folder / "my_train.py").write_text(blocks("python")[0], encoding="utf-8")
    (folder / "my_train.known").write_text(blocks("")[1], encoding="utf-8")
    options = ("--only", "sync-every-step,zero-grad-missing", "--cases", "0")
    result = verify("my_train.py:train_one_epoch", *options, "--expect-failures", "my_train.known")
    assert result.code == 1
    assert "my_train.known, line 2: sync-every-step" in result.out
    assert "line 3" not in result.out


@pytest.mark.slow
def test_the_test_in_the_docs_fails_for_the_loop_in_the_docs(folder):
    """With the verdict as its message."""
    (folder / "my_train.py").write_text(blocks("python")[0], encoding="utf-8")
    shown = next(code for code in blocks("python") if "def test_" in code)
    (folder / "test_it.py").write_text(shown, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "AssertionError: loop: my_train.py:train_one_epoch" in failed.stdout, failed.stdout
    assert "zero-grad-missing: gradients of earlier batches are applied again" in failed.stdout


DECLARED = """
from mnist_loop import Options, declare, verify
from my_train import broken, train


@declare(clip=1.0)
def decorated(model, train_loader, loss_fn, optimizer):
    train(model, train_loader, loss_fn, optimizer)


undecorated = declare(clip=1.0)(train)
chosen = Options(laws=("clip-missing",), fixed_cases=1, random_cases=0)
"""


ASKED = """
verify("loops.py:decorated", options=chosen)
verify(decorated, options=chosen)
verify(undecorated, options=chosen)
verify("my_train.py:train", options=chosen, clip=1.0)
verify("my_train.py:train", options=chosen, clip=1.0, evaluate="none")
"""


@pytest.mark.slow
def test_the_snippet_repeats_what_was_declared(folder):
    """Where the loop is imported anew, on the loop or beside it; and so the finding shows again: 10 s."""
    (folder / "loops.py").write_text(DECLARED, encoding="utf-8")
    asked = ASKED.strip().splitlines()
    shows = "".join(f"verdict = {one}\nprint(verdict.snippet(verdict.diagnoses[0]), end='\\0')\n" for one in asked)
    command = [sys.executable, "-c", f"from loops import *\n{shows}"]
    snippets = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    assert len(snippets) == len(asked)
    again = "\n".join(["from my_train import train", "from loops import decorated", *snippets])
    shown = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=True).stdout
    assert shown.count("a gradient of norm") == len(asked), shown


def test_the_docs_know_each_option_key_and_code(verify, pretend):
    """No option and no key of the JSON is left out; the Python in them is Python, the known bugs can be read."""
    pretend("loss-sum")
    content = DOCS.read_text(encoding="utf-8")
    for option in set(re.findall(r"--[a-z][a-z-]+", verify("--help").out)) - {"--help"}:
        assert f"`{option}" in content or f"verify {option}" in content, option
    document = json.loads(verify("my_train.py:train", "--json").out)
    for key in (*document, *document["diagnoses"][0], *document["laws"][0], *document["environment"]):
        assert f"`{key}`" in content, key
    for code in blocks("python"):
        compile(code, "docs", "exec")
    Path("known").write_text(blocks("")[1], encoding="utf-8")
    assert len(read_expected(Path("known"))) == 2
