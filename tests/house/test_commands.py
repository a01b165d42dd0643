"""Every command on the pages is read by its own parser, and run; where it is not run, the reason stands here."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_loop.cli import main, make_parser
from tests import results_maker, small_mnist

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("README*.md")), *sorted(ROOT.glob("docs/*.md"))]
NAMES = ("bench", "check", "compare", "report", "train", "verify")
# A line of code, also one of a workflow; or code within a sentence.
LINE = re.compile(r"^\s*(?:- run: |- )?((?:\S+ install \S+ \S+ && )?(?:mnist-loop|pytest)(?: .*)?)$", re.MULTILINE)
INLINE = re.compile(r"`((?:mnist-loop|pytest)\s[^`]+)`")
SCRIPT = """
import argparse, torch
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--lr", type=float, default=0.1)
arguments = parser.parse_args()
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr)
for epoch in range(arguments.epochs):
    for step in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(2, (8,))).backward()
        optimizer.step()
"""


def found() -> Iterator[tuple[str, str]]:
    """Yield each command, without its comment, and the page that it is on; each once."""
    seen = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for code in [*LINE.findall(text), *INLINE.findall(text)]:
            for part in re.split(r"&&|\|\||;", code.partition(" #")[0].replace("\n", " ")):
                command = " ".join(part.split())
                if command.startswith(("mnist-loop ", "pytest")) and command not in seen:
                    seen.add(command)
                    yield command, page.name


COMMANDS = dict(found())
# A word stands for what one has, or the command is but named.
TEMPLATE = r" (FILE|ID|SPEC|TIME|COMMAND)\b|^mnist-loop \w+$(?<!bench)(?<!train)|^pytest --loop$"

# The commands that are run, by how they begin, and their exit codes; the slow ones take seconds each.
QUICK = {
    r"mnist-loop verify --(list|explain)": {0},
    r"mnist-loop report \.benchmarks": {0},
    r"mnist-loop train(?!.*(--data (digits|path)|--data mnist$|--resume|--engine))": {0, 1},  # the target may be missed
}
SLOW = {
    r"mnist-loop train .*--resume": {0},
    r"mnist-loop train .*--engine": {0},
    r"mnist-loop train --data path": {0},
    r"mnist-loop verify my_train.py:train_one_epoch": {1},  # the loop of the page has a bug
    r"mnist-loop check .*train.py": {0},
}
# Those that are not, and why: each is read by the command's parser all the same.
NOT_RUN = {
    r"mnist-loop bench": "takes a minute; tests/bench runs the same benchmarks",
    r"mnist-loop compare": "needs environments, or takes a minute; tests/compare and tests/cli run comparisons",
    r"mnist-loop train --data (mnist$|digits)": "downloads, or draws 55 MB; tests/data does",
    r"mnist-loop verify (my_pkg|my_train.py:train( |$)|\"\$loop\")": "of a package of the reader's",
    r"mnist-loop verify my_train.py:train_one_epoch --expect-failures": "needs the reader's file of known failures",
    r"mnist-loop check (-m my_pkg|lesson.ipynb)": "of a package or a notebook of the reader's",
    r"mnist-loop check \w+\.py": "tests/house/test_docs.py runs the scripts of docs/answers.md",
    r"pytest": "runs the tests, or those of the reader; its options are read",
}


def kind(command: str) -> tuple[str, set[int]]:
    """Return what is done with a command, and its exit codes."""
    if re.search(TEMPLATE, command):
        return "a template", set()
    if any(re.match(rule, command) for rule in list(NOT_RUN)[2:6]):
        return "not run", set()
    for name, rules in (("quick", QUICK), ("slow", SLOW), ("not run", {rule: set() for rule in NOT_RUN})):
        for rule, codes in rules.items():
            if re.match(rule, command):
                return name, codes
    return "unknown", set()


def of_kind(name: str) -> list[str]:
    return [command for command in COMMANDS if kind(command)[0] == name]


def test_each_command_is_run_or_it_is_said_why_not() -> None:
    """None is passed over silently, and no rule is for nothing."""
    assert len(COMMANDS) > 60
    assert of_kind("unknown") == []
    unused = [rule for rule in (*QUICK, *SLOW, *NOT_RUN) if not any(re.match(rule, command) for command in COMMANDS)]
    assert unused == []
    assert len(of_kind("quick")) + len(of_kind("slow")) > 20


def test_each_command_is_read_by_its_parser(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """No option is unknown, and no value is refused."""
    for command, page in COMMANDS.items():
        if kind(command)[0] == "a template":
            assert command.split()[0] == "pytest" or command.split()[1] in NAMES, f"{page}: {command}"
            continue
        program, *arguments = shlex.split(command)
        if program == "pytest":
            _, unknown = request.config._parser.parse_known_and_unknown_args(arguments)
            assert [one for one in unknown if one.startswith("-")] == [], f"{page}: {command}"
            continue
        try:
            make_parser().parse_args(arguments)
        except SystemExit:
            pytest.fail(f"{page}: {command}: {capsys.readouterr().err}")


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages say that is there: the loop, a script, stored results, and MNIST, a small one."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"^```python\n(def train_one_epoch.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert code is not None
    (tmp_path / "my_train.py").write_text(code[1])
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / ".benchmarks").mkdir()
    results_maker.write_sweep(tmp_path / ".benchmarks" / "RESULT.json")
    for root in ("data", "path/to/folder"):
        small_mnist.write(tmp_path / root / "MNIST" / "raw", small_mnist.contents())
    monkeypatch.setenv("MNIST_LOOP_DATA", str(tmp_path / "data"))
    return tmp_path


def run(command: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    _, *arguments = shlex.split(command)
    arguments = [".benchmarks/RESULT.json" if one == ".benchmarks/*.json" else one for one in arguments]
    if "--resume" in arguments:
        assert main(["train", "--epochs", "1", "--save", "run.pt"]) == 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    assert code in kind(command)[1], f"exit code {code}: {out.getvalue()[-500:]} {err.getvalue()[-500:]}"
    assert "Traceback" not in err.getvalue()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("command", of_kind("quick"))
def test_it_runs(command: str) -> None:
    """In a fresh folder, with the exit code that the page says."""
    run(command)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("command", of_kind("slow"))
def test_it_runs_for_seconds(command: str) -> None:
    """In a fresh folder, with the exit code that the page says."""
    if command.startswith("mnist-loop check"):
        _, *arguments = shlex.split(command)
        done = subprocess.run(
            [sys.executable, "-m", "mnist_loop", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode in kind(command)[1], done.stderr
    else:
        run(command)
