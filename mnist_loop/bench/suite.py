"""The pytest plugin of the benchmark suite: options, fixtures, and the choice of what is measured.

The project's conftest.py loads it, and so does ``mnist-loop bench``. It extends pytest-benchmark through its hooks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from mnist_loop.engines import CUDA_ONLY
from mnist_loop.engines.options import engines
from mnist_loop.errors import UserError
from mnist_loop.support.options import batch_sizes, thread_count

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from mnist_loop.bench.workloads import TimedWorkload
    from mnist_loop.data import Data

BATCH_SIZES = [16, 64, 256, 1024, 4096]
ASKS_FOR_TIMING = ("only", "enable", "save", "autosave", "json", "compare")  # options --benchmark-...
FOLDER = "benchmarks"
SWEEP = "mnist_loop-sweep"  # the plugin that a timed run registers
OTHER_ENGINES = "engines are measured where they are asked for: --engines all, or --engines native,compiled"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the benchmark suite."""
    add = parser.getgroup("mnist_loop", "the training loop and its benchmarks").addoption
    add(
        "--data",
        metavar="WHERE",
        help="folder that holds MNIST/raw; or mnist: no stand-in; or digits: the stand-in, 55 MB in ./data",
    )
    add(
        "--device",
        type=_devices,
        metavar="LIST",
        help="devices to measure, e.g. cpu,cuda (default: all of these there are)",
    )
    add("--batch-sizes", type=batch_sizes, default=BATCH_SIZES, metavar="LIST", help="default 16,64,256,1024,4096")
    add(
        "--engines",
        type=engines,
        default=[],
        metavar="LIST",
        help="measure epochs of these engines too, e.g. native,compiled, or all (default: none)",
    )
    add(
        "--threads",
        type=thread_count,
        metavar="N",
        help="CPU threads to measure with (default: all this process may use)",
    )


@pytest.hookimpl(tryfirst=True)  # pytest-benchmark reads these options in its own
def pytest_configure(config: pytest.Config) -> None:
    """Time the benchmarks where that was asked for; run each once, untimed, in a plain ``pytest`` run."""
    config.addinivalue_line("markers", "slow: takes more than ten seconds; run with -m slow")
    option = config.option
    chosen = option.engines
    if chosen and {*chosen} <= {*CUDA_ONLY} and "cuda" not in " ".join(option.device or _devices_here()):
        raise pytest.UsageError(f"--engines {','.join(chosen)}: on CUDA alone, which is not measured here; name others")
    if not any(getattr(option, f"benchmark_{name}", None) for name in ASKS_FOR_TIMING):
        option.benchmark_disable = True
        return
    option.benchmark_disable_gc = True
    option.benchmark_quiet = True  # its table is in seconds a block; the sweep's is in images a second
    if option.benchmark_only and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        config.args = [FOLDER]  # no test is even imported
    from mnist_loop.bench.sweep_hooks import SweepHooks  # imports torch

    config.pluginmanager.register(SweepHooks(config), SWEEP)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a benchmark each device, and each batch size and engine if it asks for one."""
    if "benchmark" not in metafunc.fixturenames:
        return
    devices = metafunc.config.getoption("device") or _devices_here()
    if "engine" in metafunc.fixturenames:
        engines = metafunc.config.getoption("engines")
        there = [(device, one) for device in devices for one in engines if device != "cpu" or one not in CUDA_ONLY]
        metafunc.parametrize(("device", "engine"), there)
    elif "device" in metafunc.fixturenames:
        metafunc.parametrize("device", devices)
    if "batch_size" in metafunc.fixturenames:
        metafunc.parametrize("batch_size", metafunc.config.getoption("batch_sizes"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the benchmark of engines out where no engine was asked for."""
    if not config.getoption("engines"):
        left_out = [item for item in items if {"benchmark", "engine"} <= {*getattr(item, "fixturenames", ())}]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say how engines are asked for, in a timed run without any."""
    asked = config.getoption("engines") or not config.pluginmanager.has_plugin(SWEEP)
    return [] if asked else [OTHER_ENGINES]


@pytest.fixture(scope="session")
def data(request: pytest.FixtureRequest) -> Data:
    """The data of the benchmarks: MNIST if it is there or, when timing, can be downloaded; else Digits."""
    from mnist_loop.bench.workloads import check_batch_size
    from mnist_loop.data import load_data

    config = request.config
    try:
        found = load_data(config.getoption("data"), download=not config.option.benchmark_disable)
        check_batch_size(max(config.getoption("batch_sizes")), found)
    except UserError as error:
        pytest.exit(f"mnist_loop: {error}", returncode=pytest.ExitCode.USAGE_ERROR)
    sweep = config.pluginmanager.get_plugin(SWEEP)
    if sweep is not None:
        sweep.line(found.note)
    return found


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """The number of CPU threads that torch uses during the test."""
    import torch

    from mnist_loop.bench.machine import available_cpus

    before = torch.get_num_threads()
    torch.set_num_threads(request.config.getoption("threads") or available_cpus())
    yield torch.get_num_threads()
    torch.set_num_threads(before)


@pytest.fixture
def measure(
    benchmark: BenchmarkFixture,
    data: Data,
    threads: int,  # noqa: ARG001  # it is set for the length of the test
) -> Callable[..., None]:
    """Measure one kind of workload at one batch size on one device, by one engine."""
    import torch

    from mnist_loop.bench import clock
    from mnist_loop.engines.contract import Unsuitable

    def measure(kind: type[TimedWorkload], batch_size: int, device: str, engine: str = "reference") -> None:
        try:
            clock.measure_workload(kind(data, batch_size, torch.device(device), engine=engine), benchmark)
        except Unsuitable as error:
            pytest.skip(str(error))

    return measure


def _devices(text: str) -> list[str]:
    from mnist_loop.support.device import resolve_device

    try:
        return [str(resolve_device(name)) for name in text.split(",")]
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _devices_here() -> list[str]:
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
