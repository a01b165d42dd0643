"""The scratch folder: after `verify`, the user's files are what they were, however the loop writes and ends."""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

import pytest

import mnist_loop.verification.verify as verifying
from mnist_loop.cli import main
from mnist_loop.verification.options import Options
from mnist_loop.verification.sandbox import landlock, scratch
from mnist_loop.verification.sandbox.isolation import Ended, Sandbox
from mnist_loop.verification.verify import verify
from tests.verification.ways_to_write import ALWAYS_REFUSED, TOLD, WAYS, lay_out, state

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
LONG_S = 100
QUICK = Options(fixed_cases=1, random_cases=0)
LOOP = """
import json
import os
import posix
from pathlib import Path

import torch

from tests.verification.ways_to_write import WAYS

OWN = Path(__file__).parent
assert json.loads(open("config.json").read()) == {"lr": 0.1}
assert sorted(os.listdir("data")) == ["deep", "words.txt"]
assert [name for _, _, names in os.walk(".") for name in names if name == "leaf.txt"] == ["leaf.txt"]
assert Path("..", "beside.txt").read_text() == Path("../../outer/beside.txt").read_text() == "beside"
assert torch.load("weights.pt")["w"].tolist() == [0.0] * 1000


def write(phase):
    torch.save({"w": torch.ones(1)}, "weights.pt")
    assert torch.load("weights.pt")["w"].tolist() == [1.0]
    for folder in ("runs", "logs/today", "wandb"):
        os.makedirs(folder, exist_ok=True)
        Path(folder, "log.txt").write_text(phase)
    for path in (Path("../x"), Path("../beside.txt")):
        path.write_text(phase)
        assert path.read_text() == phase
    for way in WAYS.values():
        way(f"{phase}/{way_name(way)}")
    Path("data/words.txt").write_text(phase)
    os.chdir(OWN)
    Path("chdir.txt").write_text(phase)
    assert not (OWN / "chdir.txt").exists()


def way_name(way):
    return next(name for name in WAYS if WAYS[name] is way)


write("import")
wrote = False


def train(model, train_loader, loss_fn, optimizer):
    global wrote
    if not wrote:
        write("run")
    wrote = True
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()
    torch.save(model.state_dict(), "weights.pt")
"""


@pytest.fixture
def outer(tmp_path, monkeypatch):
    """A folder with a project in it, which is the working folder. Large files are those over 100 bytes."""
    import torch

    project = tmp_path / "outer" / "project"
    (project / "data" / "deep").mkdir(parents=True)
    (project / "config.json").write_text('{"lr": 0.1}')
    (project / "data" / "words.txt").write_text("word\n" * 50)
    (project / "data" / "deep" / "leaf.txt").write_text("leaf")
    (project.parent / "beside.txt").write_text("beside")
    torch.save({"w": torch.zeros(1000)}, project / "weights.pt")
    for phase in ("import", "run"):
        lay_out(project / phase)
    monkeypatch.setattr(scratch, "SMALL_FILE", 100)
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return project.parent


@pytest.fixture(autouse=True)
def no_scratch_left(tmp_path, monkeypatch):
    """No scratch folder outlives a test."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(place))
    yield place
    assert list(place.glob(f"{scratch.PREFIX}*")) == []


def in_scratch(function, **options):
    """Run a function in a sandbox; return its result."""
    with Sandbox(lambda: lambda _: function(), timeout=LONG_S, start_method="fork", **options) as worker:
        return worker.ask(None)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_verify_changes_nothing(outer, start_method, monkeypatch):
    """A loop writes in each way by relative paths, at its import and while it runs; it works, and no file changes."""
    monkeypatch.setattr(verifying, "start_method", lambda _: start_method)
    if start_method == "spawn":  # the limit is not patched there, but it is this process that makes the folder
        monkeypatch.setattr(verifying, "can_isolate", lambda *_: None)
    Path("my_train.py").write_text(LOOP)
    before = state(outer)
    verdict = verify("my_train.py:train", options=QUICK)
    assert not verdict.failed
    assert verdict.held
    assert state(outer) == before


def test_each_way_writes(tmp_path):
    """Without protection each way changes a file, so that the tests here can fail."""
    for way, write in (WAYS | ALWAYS_REFUSED).items():
        lay_out(tmp_path / way)
        before = state(tmp_path / way)
        write(str(tmp_path / way / way))
        assert state(tmp_path / way) != before, way


def test_absolute_paths_are_refused(outer):
    """And by name, also after another chdir than that of `os`; the folder is as it was."""
    folder = Path.cwd() / "run"

    def attempts():
        import posix

        posix.chdir(folder)
        refused = {}
        for base in ("", f"{folder}/", f"{folder}/../run/"):
            for way, write in (WAYS | ALWAYS_REFUSED).items():
                try:
                    write(base + way)
                except Exception as error:  # noqa: BLE001  # C++ and other programs have their own
                    refused[base, way] = type(error).__name__, scratch.refusal(error) is not None
        return refused

    before = state(outer)
    refused = in_scratch(attempts)
    for base in ("", f"{folder}/", f"{folder}/../run/"):
        for way in TOLD | ALWAYS_REFUSED:
            assert refused[base, way] == ("WriteRefused", True), (base, way)
    if landlocked():
        assert {way for _, way in refused} == set(WAYS | ALWAYS_REFUSED)
        assert state(outer) == before


def landlocked():
    """Return whether the kernel refuses what Python does not tell of. It is tried in a process of its own."""
    return in_scratch(lambda: landlock._active)


def test_a_refused_write_is_one_sentence(outer, capsys):
    """Not a bug of the loop: exit code 2, with the line that writes, the file, and what to do."""
    Path("my_train.py").write_text(
        f"def train(model, train_loader, loss_fn, optimizer):\n    open({str(outer / 'beside.txt')!r}, 'w').close()\n"
    )
    before = state(outer)
    assert main(["verify", "my_train.py:train"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mnist-loop: my_train.py:2 changes {outer / 'beside.txt'}: ")
    assert error.count("\n") == 1
    assert state(outer) == before


def test_random_cases_leave_nothing(outer):
    """Hypothesis, too, keeps what it keeps elsewhere."""
    Path("my_train.py").write_text("import torch\n\nwrote = True\n\n\n" + LOOP[LOOP.index("def train(") :])
    before = state(outer)
    assert verify("my_train.py:train", options=Options(fixed_cases=1, random_cases=2)).random_cases == 2
    assert state(outer) == before


@pytest.mark.parametrize("end", ["hangs", "exits", "is killed"])
def test_the_scratch_folder_goes_with_the_process(outer, end):
    """However the loop ends; the fixture looks for what is left."""
    ends = {
        "hangs": lambda: time.sleep(LONG_S),
        "exits": lambda: os._exit(3),
        "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    }
    with Sandbox(lambda: lambda _: ends[end](), timeout=0.5, start_method="fork") as sandbox, pytest.raises(Ended):
        sandbox.ask(None)


def test_what_a_killed_verifier_left_is_swept(outer, no_scratch_left):
    """By the next one, once it is old enough and nobody holds it."""
    left = no_scratch_left / f"{scratch.PREFIX}left"
    (left / "files").mkdir(parents=True)
    held = no_scratch_left / f"{scratch.PREFIX}held"
    held.mkdir()
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    for folder in (left, held):
        os.utime(folder, (1, 1))
    assert in_scratch(lambda: True)
    assert not left.exists()
    assert held.exists()
    os.close(lock)
    held.rmdir()
