"""What the tests are given: the code under test, module by module, and the devices to try it on."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from mnist_loop import loop as loop_module
from mnist_loop import model as model_module
from mnist_loop.data import mnist as data_module
from mnist_loop.errors import DataError
from mnist_loop.training import checkpoint as checkpoint_module
from tests import left_behind

LEFT = pytest.StashKey[left_behind.Watch]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Look at what is there before the tests."""
    root = session.config.rootpath
    session.config.stash[LEFT] = left_behind.Watch(root, root / "data", root / ".benchmarks")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep what was imported and collected out of the garbage collections to come, and out of those of forks."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session that leaves a process, a temporary folder or a half-written file of ours, by its name."""
    gc.unfreeze()
    if hasattr(session.config, "workerinput"):  # a process of xdist: the one that started it looks
        return
    left = session.config.stash[LEFT].left()
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    for one in left:
        if reporter is not None:
            reporter.write_line(f"left behind by the tests: {one}", red=True)
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# The code under test comes as session fixtures, so that tests/properties/test_mutants.py can hand in a broken copy.


@pytest.fixture(autouse=True)
def no_loop_of_another_test() -> Iterator[None]:
    """Forget the module that the tests write again and again, each with a loop of its own."""
    sys.modules.pop("my_train", None)
    yield
    sys.modules.pop("my_train", None)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> Iterator[None]:
    """Let Ctrl-C reach the programs that the tests start.

    A shell has what it starts in the background ignore it, and what ignores it hands that on to its own children.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def no_worker() -> Iterator[None]:
    """Hide from the sessions of pytest that tests start that they may run in a process of xdist.

    pytest-benchmark would measure nothing in them.
    """
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PYTEST_XDIST")}
    yield
    os.environ.update(before)


@pytest.fixture(scope="session")
def loop() -> ModuleType:
    """The training loop."""
    return loop_module


@pytest.fixture(scope="session")
def models() -> ModuleType:
    """The models."""
    return model_module


@pytest.fixture(scope="session")
def loading() -> ModuleType:
    """The transform and the DataLoaders."""
    return data_module


@pytest.fixture(scope="session")
def checkpoints() -> ModuleType:
    """Checkpoints."""
    return checkpoint_module


@pytest.fixture(scope="session", params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that the laws must hold on. Where there is no CUDA, tests/properties/test_cuda.py says so, once."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def digits() -> data_module.Data:
    """The built-in stand-in, drawn into ./data at the first use."""
    return data_module.load_data("digits")


@pytest.fixture(scope="session")
def mnist() -> data_module.Data:
    """Real MNIST, where it is on disk."""
    try:
        return data_module.load_data("mnist", download=False)
    except DataError as error:
        pytest.skip(f"needs real MNIST: {error}")
