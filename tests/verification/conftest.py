"""What the tests of verification share."""

import importlib

import pytest


@pytest.fixture(scope="session", autouse=True)
def compiler():
    """Torch imports its compiler with the first optimizer, and that sets a variable of the environment."""
    importlib.import_module("torch._dynamo")
