"""What a loop leaves behind in the process and beside it: processes, and Python's own functions replaced."""

import builtins
import multiprocessing
import os
import subprocess
import sys
import time

import psutil
import pytest

from mnist_loop import Case, Options
from mnist_loop.verification.verify import verify

SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]


def sleeps():
    time.sleep(1000)


def forks():
    if os.fork() == 0:
        sleeps()


def forks_twice():
    """The second process belongs to no group and no parent of the loop's."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            sleeps()
        os._exit(0)


def starts_a_session():
    subprocess.Popen(SLEEP, start_new_session=True)


def spawns():
    multiprocessing.get_context("spawn").Process(target=sleeps, daemon=True).start()


def forks_twice_and_dies():
    forks_twice()
    time.sleep(0.5)
    os._exit(3)


def train(model, train_loader, loss_fn, optimizer):
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()


def after(act):
    """Make a loop that trains as it should, and then does this once a run."""

    def loop(model, train_loader, loss_fn, optimizer, epoch):
        train(model, train_loader, loss_fn, optimizer)
        if epoch == 1:
            act()

    return loop


@pytest.fixture
def none_is_left():
    """No process of the test's is there at its end, wherever it went."""
    before = set(psutil.pids())
    yield
    later = [process for process in psutil.process_iter() if process.pid not in before]
    ours = []
    for process in later:
        try:
            if process.environ().get("PYTEST_CURRENT_TEST") == os.environ["PYTEST_CURRENT_TEST"]:
                ours.append(process)
        except psutil.Error:
            pass
    assert not ours


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux alone")
@pytest.mark.parametrize("act", [forks, forks_twice, starts_a_session, spawns])
def test_a_process_that_is_left_is_found_and_ended(act, none_is_left):
    """Whatever it did to get away from the loop's process, parent and group."""
    options = Options(cases=(Case(),), laws=("leaves-threads", "gradient-differs"))
    verdict = verify(after(act), options=options)
    assert verdict.failed["leaves-threads"].startswith("still running: process ")
    assert "gradient-differs" in verdict.held


@pytest.mark.skipif(sys.platform != "linux", reason="a process is found by its folder on Linux alone")
def test_a_process_that_outlives_the_loop_that_exits_is_ended(none_is_left):
    """It is nobody's child then."""
    verdict = verify(after(forks_twice_and_dies), options=Options(cases=(Case(),)))
    assert set(verdict.failed) == {"loop-exits"}


def replaces(name, value):
    def act():
        setattr(builtins, name, value)

    return act


@pytest.mark.parametrize("name", ["isinstance", "len", "print", "zip", "getattr", "next"])
@pytest.mark.parametrize("in_process", [True, False])
def test_a_function_of_python_that_is_replaced_is_put_back(name, in_process):
    """The verification goes on with Python's own, and names what the loop left; the loop has what it replaced."""
    own = getattr(builtins, name)
    options = Options(cases=(Case(epochs=1),), in_process=in_process)
    verdict = verify(after(replaces(name, lambda *_: 0)), options=options)
    assert getattr(builtins, name) is own
    assert verdict.failed == {"leaves-global-state": "changed and not put back: built-in functions"}
    assert "gradient-differs" in verdict.held


def test_a_function_that_is_replaced_at_import_is_there_in_the_loop(tmp_path):
    """A file that brings a print of its own has it, and it is no finding."""
    file = tmp_path / "brings_its_print.py"
    file.write_text(
        "import builtins\n"
        "def told(*words): raise RuntimeError('a print of its own')\n"
        "builtins.print = told\n"
        "def train(model, train_loader, loss_fn, optimizer):\n"
        "    try: print('x')\n"
        "    except RuntimeError as error: pass\n"
        "    else: raise ValueError('another print')\n"
        "    for images, labels in train_loader:\n"
        "        optimizer.zero_grad()\n"
        "        loss_fn(model(images), labels).backward()\n"
        "        optimizer.step()\n"
    )
    options = Options(cases=(Case(),), laws=("loop-raises", "leaves-global-state"))
    verdict = verify(f"{file}:train", options=options)
    assert set(verdict.held) == {"loop-raises", "leaves-global-state"}
