"""The set-up of pytest in this repository: plugins of the benchmarks, Hypothesis profiles, a guard against leaks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, settings
from torch._inductor import config as inductor

from mnist_loop.bench.machine import available_cpus
from tests import global_state

PROCESSES = 4  # of which each may take more than 1 GB

pytest_plugins = ["mnist_loop.bench.suite", "mnist_loop.cli.sweep_table", "pytester"]

# The same examples at each commit, and no deadline: a loaded machine must not make a test fail.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=25, print_blob=True)
# Random and many, for the night: pytest --hypothesis-profile thorough
settings.register_profile(
    "thorough", deadline=None, max_examples=500, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure() -> None:
    """Use one thread: the tests' tensors are tiny, and threads would only wait for each other.

    And compile in this process: torch's pool of compilers lives on after the test that started it.
    """
    torch.set_num_threads(1)
    inductor.compile_threads = 1


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run all tests in several processes, and those of some files, or what is measured, in this one."""
    everything = config.args == config.getini("testpaths")
    return min(available_cpus(), PROCESSES) if everything and not config.getoption("benchmark_only") else 0


class TorchGenerator:
    """torch's global generator as Hypothesis wants it: seeded before each example, put back after it."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


TORCH_GENERATOR = TorchGenerator()  # Hypothesis keeps a weak reference alone
hypothesis.register_random(TORCH_GENERATOR)


@pytest.fixture(autouse=True)
def no_leak() -> Iterator[None]:
    """Fail the test that leaves global state other than it found it, and put the state back for the next."""
    before = global_state.snapshot()
    yield
    changed = global_state.restore(before)
    assert not changed, f"the test changed global state and did not put it back: {', '.join(changed)}"
