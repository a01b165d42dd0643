"""What the tests are given: the code under test, module by module, and the devices to try it on."""

from __future__ import annotations

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

# The code under test comes as session fixtures, so that tests/properties/test_mutants.py can hand in a broken copy.


@pytest.fixture(autouse=True)
def no_loop_of_another_test() -> Iterator[None]:
    """Forget the module that the tests write again and again, each with a loop of its own."""
    sys.modules.pop("my_train", None)
    yield
    sys.modules.pop("my_train", None)


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
