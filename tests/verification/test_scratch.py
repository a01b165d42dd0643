"""The scratch folder: after `verify`, the user's files are what they were, however the loop writes and ends."""

import ctypes
import multiprocessing
import os
import posix
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from hypothesis import configuration

import mnist_loop.verification.verify as verifying
from mnist_loop.cli import main
from mnist_loop.verification.binding.resolve import import_file
from mnist_loop.verification.options import Options
from mnist_loop.verification.sandbox import landlock, scratch
from mnist_loop.verification.sandbox.isolation import Ended, Sandbox
from mnist_loop.verification.verify import verify
from tests.verification.ways_to_write import OPEN, TOLD, UNTOLD, WAYS, lay_out, native, state

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
LONG_S = 100
QUICK = Options(fixed_cases=1, random_cases=0)
LOOP = """
import json
import os
from pathlib import Path

import torch

from tests.verification.ways_to_write import TOLD, UNTOLD

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
    for way, do in (TOLD | UNTOLD).items():
        do(f"{phase}/{way}")
    Path("data/words.txt").write_text(phase)
    os.chdir(OWN)
    Path("chdir.txt").write_text(phase)
    assert not (OWN / "chdir.txt").exists()


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


REFUSED = """
import os
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent


def train(model, train_loader, loss_fn, optimizer):
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()


def writes(model, train_loader, loss_fn, optimizer):
    (HERE / "notes.txt").write_text("no")


def saves(model, train_loader, loss_fn, optimizer):
    train(model, train_loader, loss_fn, optimizer)
    torch.save(model.state_dict(), HERE / "weights.pt")


def gives_up(model, train_loader, loss_fn, optimizer):
    try:
        (HERE / "runs").mkdir()
    except OSError:
        sys.exit("no place for runs")


def wraps(model, train_loader, loss_fn, optimizer):
    try:
        os.makedirs(HERE / "runs" / "today")
    except PermissionError as error:
        raise RuntimeError("no place for runs") from error


def goes_on(model, train_loader, loss_fn, optimizer):
    try:
        saves(model, train_loader, loss_fn, optimizer)
    except PermissionError:
        pass
"""


@pytest.fixture
def outer(tmp_path, monkeypatch):
    """A folder with a project in it, which is the working folder. Large files are those of over 100 bytes."""
    project = tmp_path / "outer" / "project"
    (project / "data" / "deep").mkdir(parents=True)
    (project / "config.json").write_text('{"lr": 0.1}')
    (project / "data" / "words.txt").write_text("word\n" * 50)
    (project / "data" / "deep" / "leaf.txt").write_text("leaf")
    (project.parent / "beside.txt").write_text("beside")
    torch.save({"w": torch.zeros(1000)}, project / "weights.pt")
    (project / "my_train.py").write_text(LOOP)
    (project / "refused.py").write_text(REFUSED)
    monkeypatch.setattr(scratch, "SMALL_FILE", 100)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.chdir(project)
    return project.parent


@pytest.fixture
def laid_out(outer):
    """That folder, with a folder for each way to write in each phase: 600 entries."""
    for phase in ("import", "run"):
        lay_out(outer / "project" / phase)
    return outer


@pytest.fixture
def place(tmp_path, monkeypatch):  # tmp_path is made first, elsewhere: nobody's files are in memory
    """Where scratch folders are made."""
    with tempfile.TemporaryDirectory(dir=scratch.best_place()) as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield Path(place)


@pytest.fixture(autouse=True)
def no_scratch_left(place):
    """No scratch folder outlives a test."""
    yield
    assert left_in(place) == []


def test_scratch_folders_are_in_memory_where_there_is_room(monkeypatch, tmp_path):
    """Not in a small memory, and not where the user has chosen another place."""
    monkeypatch.setattr(tempfile, "tempdir", scratch.SYSTEMS)
    monkeypatch.setattr(scratch, "MEMORY", str(tmp_path))
    monkeypatch.setattr(scratch, "ROOM_IN_MEMORY", 1)
    assert scratch.best_place() == str(tmp_path)
    monkeypatch.setattr(scratch, "ROOM_IN_MEMORY", 2**60)
    assert scratch.best_place() == scratch.SYSTEMS
    monkeypatch.setattr(scratch, "ROOM_IN_MEMORY", 1)
    monkeypatch.setattr(scratch, "MEMORY", str(tmp_path / "none"))
    assert scratch.best_place() == scratch.SYSTEMS
    monkeypatch.setattr(scratch, "MEMORY", "/proc")  # no room, and nobody may write there
    assert scratch.best_place() == scratch.SYSTEMS
    monkeypatch.setattr(scratch, "MEMORY", str(tmp_path))
    chosen = str(tmp_path / "chosen")
    monkeypatch.setattr(tempfile, "tempdir", chosen)
    assert scratch.best_place() == chosen


def left_in(place):
    """Return the scratch folders that there are."""
    return list(place.glob(f"{scratch.PREFIX}*"))


def in_scratch(function):
    """Run a function in a sandbox; return its result."""
    with Sandbox(lambda: lambda _: function(), timeout=LONG_S, start_method="fork") as sandbox:
        return sandbox.ask(None)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_verify_changes_nothing(laid_out, start_method, monkeypatch):
    """A loop writes in each way by relative paths, at its import and while it runs; it works, and no file changes."""
    monkeypatch.setattr(verifying, "start_method", lambda _: start_method)
    kept = configuration.storage_directory(intent_to_write=False).path
    before = state(laid_out)
    configuration.set_hypothesis_home_dir(Path.cwd() / ".hypothesis")
    try:
        verdict = verify("my_train.py:train", options=Options(fixed_cases=1, random_cases=1))
        assert configuration.storage_directory(intent_to_write=False).path == Path.cwd() / ".hypothesis"
    finally:
        configuration.set_hypothesis_home_dir(kept)
    assert not verdict.failed
    assert verdict.held
    assert state(laid_out) == before


def test_each_way_writes(tmp_path):
    """Without protection each way changes a file, so that the tests here can fail."""
    for way, write in WAYS.items():
        lay_out(tmp_path / way, way)
        before = state(tmp_path / way)
        write(str(tmp_path / way / way))
        assert state(tmp_path / way) != before, way


@pytest.mark.parametrize("kernel", [True, False], ids=["with Landlock", "without"])
def test_absolute_paths_are_refused(laid_out, kernel, monkeypatch):
    """And relative ones after a chdir that Python does not tell of. No file changes."""
    if not kernel:
        monkeypatch.setattr(landlock, "restrict", lambda _: False)
    folder = Path.cwd() / "run"

    def attempts():
        ways = WAYS if landlock._active else TOLD | OPEN
        posix.chdir(folder)
        bases = ("", f"{folder}/", f"{folder}/../run/")
        return [(base, way, *attempt(write, base + way)) for base in bases for way, write in ways.items()]

    def attempt(write, path):
        try:
            write(path)
        except Exception as error:  # noqa: BLE001  # C++ and other programs have their own
            return type(error).__name__, scratch.refusal(error) is not None
        return "nothing raised", False

    before = state(laid_out)
    tried = in_scratch(attempts)
    assert state(laid_out) == before
    assert len(tried) >= 3 * len(TOLD)
    for base, way, error, is_refusal in tried:
        assert error != "nothing raised", (base, way)
        assert error == "WriteRefused" or way in UNTOLD, (base, way, error)
        assert is_refusal or way == "os.mkfifo", (base, way, error)  # the word of the kernel to Python is an OSError


def test_links_are_not_written_through_by_cpp(laid_out):
    """A large file is a link until Python opens it: the kernel refuses that another writes to it."""
    before = state(laid_out)

    def attempt():
        if not landlock._active:
            pytest.skip("needs Landlock")
        with pytest.raises(RuntimeError, match="ermission denied"):
            native("run/C++/file.bin")
        Path("run/C++/file.bin").open("ab").close()
        native("run/C++/file.bin")

    in_scratch(attempt)
    assert state(laid_out) == before


@pytest.mark.parametrize("kind", ["package", "full", "small"])
def test_packages_and_full_folders_are_links(outer, kind, monkeypatch):
    """Making a link takes one step, whatever is in the folder; what Python writes there changes no file."""
    monkeypatch.setattr(scratch, "MOST_ENTRIES", 100)
    folder = Path("images")
    folder.mkdir()
    names = {"package": ["__init__.py"], "full": [f"{number}.png" for number in range(101)], "small": ["0.png"]}[kind]
    for name in names:
        (folder / name).touch()
    before = state(outer)

    def use():
        shown = sorted(path.name for path in folder.iterdir()), folder.is_symlink()
        (folder / "new.txt").write_text("new")
        (folder / names[0]).write_text("changed")
        assert (folder / "new.txt").read_text() == "new"
        return shown

    assert in_scratch(use) == (sorted(names), kind != "small")
    assert state(outer) == before


@pytest.mark.parametrize("name", ["writes", "saves", "gives_up", "wraps"])
def test_a_refused_write_is_misuse_and_no_bug(outer, name, capsys):
    """One sentence names the line and the path; exit code 2."""
    before = state(outer)
    assert main(["verify", f"refused.py:{name}", "--cases", "0"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("mnist-loop: refused.py:")
    assert f" changes {Path.cwd()}/" in told
    assert told.count("\n") == 1
    assert "Traceback" not in told
    assert state(outer) == before


def test_a_refused_write_at_import_is_told_so(outer):
    """The definitions alone are executed then, so that the loop can be tried all the same."""
    Path("at_import.py").write_text(f"from pathlib import Path\nPath({str(outer)!r}, 'x').touch()\n{REFUSED}")
    before = state(outer)
    verdict = verify("at_import.py:train", options=QUICK)
    assert verdict.held
    assert "definitions and constants alone were executed, as the whole file fails with WriteRefused" in str(verdict)
    assert state(outer) == before


def test_a_loop_that_copes_with_a_refusal_is_judged(outer):
    """It goes on without its file."""
    verdict = verify("refused.py:goes_on", options=QUICK)
    assert verdict.held
    assert not verdict.failed


def test_temporary_folders_and_devices_may_be_written(outer):
    """tempfile, the null device, and the memory that processes share, of the project in a temporary folder too."""

    def use():
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("x")
        Path(os.devnull).write_text("x")
        multiprocessing.get_context("spawn").Lock()
        torch.ones(2).share_memory_()

    in_scratch(use)


def remove_all():
    shutil.rmtree(os.getcwd())  # noqa: PTH109


def lock_up():
    os.mkdir("locked", 0o700)  # noqa: PTH102
    os.symlink(original_file(), "locked/link")  # noqa: PTH211
    os.chmod("locked", 0)  # noqa: PTH101


def original_file():
    return scratch.original(Path.cwd()) / "config.json"


def interrupt():
    """Do as Ctrl-C does to the verifier, while the loop goes on."""
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(LONG_S)


ENDS = {
    "hang": lambda: time.sleep(LONG_S),
    "exit": lambda: os._exit(3),
    "crash": lambda: ctypes.string_at(0),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SystemExit": lambda: sys.exit(1),
    "Ctrl-C": interrupt,
}


@pytest.mark.parametrize("end", ENDS)
def test_the_scratch_folder_ends_with_the_child(outer, end, place):
    """Whatever ends it, and whatever it did in the folder. The user's files stay."""
    before = state(outer)

    def run():
        lock_up()
        ENDS[end]()

    timeout = 0.5 if end == "hang" else LONG_S
    with Sandbox(lambda: lambda _: run(), timeout=timeout, start_method="fork") as sandbox:
        with pytest.raises(KeyboardInterrupt if end == "Ctrl-C" else Ended):
            sandbox.ask(None)
        assert left_in(place) == []
    assert state(outer) == before


def test_a_loop_may_remove_its_working_folder(outer):
    """Of the user's folder, nothing goes."""
    before = state(outer)
    in_scratch(remove_all)
    assert state(outer) == before


def test_what_a_killed_verifier_left_is_removed_at_the_next_start(place):
    """But for what is in use, or so new that it may be."""

    def die():
        inner = Sandbox(lambda: os.getpid, timeout=LONG_S, start_method="fork")
        inner._start()
        os.kill(os.getpid(), signal.SIGKILL)

    with Sandbox(lambda: lambda _: die(), timeout=LONG_S, start_method="fork") as outside, pytest.raises(Ended):
        outside.ask(None)
    (stale,) = left_in(place)
    with Sandbox(lambda: lambda _: None, timeout=LONG_S, start_method="fork") as alive:
        alive.ask(None)
        used = next(folder for folder in left_in(place) if folder != stale)
        assert stale.exists()
        for folder in (stale, used):
            os.utime(folder, (0, 0))
        in_scratch(lambda: None)
        assert left_in(place) == [used]


def test_an_import_leaves_no_compiled_form(outer):
    """In this process too; where compiled forms go is as before."""
    assert import_file(Path("refused.py")).train
    assert not list(outer.rglob("__pycache__"))
    assert sys.dont_write_bytecode is False


def test_pytest_changes_nothing_either(laid_out, pytester, monkeypatch):
    """With --loop, the loop is bound and verified in a scratch folder."""
    monkeypatch.chdir(laid_out / "project")
    before = state(laid_out)
    result = pytester.runpytest_inprocess(
        "-p",
        "no:cacheprovider",
        "-p",
        "no:benchmark",
        "--rootdir",
        ".",
        "--loop",
        "my_train.py:train",
        "--loop-cases",
        "0",
    )
    assert result.ret == 0
    assert state(laid_out) == before
