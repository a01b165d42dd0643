"""``mnist-loop bench``: the benchmark suite."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mnist_loop.engines.options import engines
from mnist_loop.errors import UserError
from mnist_loop.support.files import check_room
from mnist_loop.support.options import batch_sizes, thread_count

PLUGINS = ("-p", "mnist_loop.bench.suite", "-p", "mnist_loop.cli.sweep_table")
ISOLATED = (*PLUGINS, "-c", os.devnull, "--rootdir", ".", "--noconftest", "-p", "no:cacheprovider")
INTERRUPTED_BY_PYTEST, MISUSED_PYTEST = 2, 4
MISUSED, INTERRUPTED = 2, 130
FOLDER = Path(".benchmarks")
WORDS = ("mnist", "digits")  # that --data takes besides folders


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench`` to the command line."""
    parser = commands.add_parser(
        "bench",
        help="measure images per second by batch size",
        description=(
            "Measure images per second of the lesson's input pipeline, step, both together, and evaluation, by batch "
            "size, and of epochs of the engines that are asked for. "
            "This is `pytest --benchmark-only` on the benchmark suite. The result is stored under .benchmarks/, "
            "where `mnist-loop report` finds it."
        ),
        epilog="Exit codes: 0 done, 1 a wrong result, 2 misuse, 130 Ctrl-C; what was measured before is stored.",
    )
    add = parser.add_argument
    add("--batch-sizes", type=batch_sizes, metavar="LIST", help="default 16,64,256,1024,4096")
    add("--device", metavar="LIST", help="devices, e.g. cpu,cuda (default: the CPU, and CUDA where it is)")
    add(
        "--engines",
        type=engines,
        metavar="LIST",
        help="measure epochs of these engines too, e.g. native,compiled, or all (default: none)",
    )
    add(
        "--data",
        metavar="WHERE",
        help="folder that holds MNIST/raw; or mnist: no stand-in; or digits: the stand-in, 55 MB in ./data",
    )
    add("--threads", type=thread_count, metavar="N", help="CPU threads (default: as many as this process may use)")
    add("--time-to-accuracy", action="store_true", help="measure the time to 92 %% test accuracy too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmarks; return the exit code.

    Raises:
        UserError: ``--data`` is no folder, or the result could not be written.
    """
    if arguments.data not in (None, *WORDS) and not Path(arguments.data).is_dir():
        raise UserError(
            f"--data {arguments.data}: no such folder, expected one with MNIST/raw, or {' or '.join(WORDS)}"
        )
    check_room(FOLDER / "result.json")
    import pytest

    from mnist_loop.support.device import resolve_device

    for device in (arguments.device or "").split(","):
        if device:
            resolve_device(device.strip())  # here, as pytest would tell of its own usage first
    # Without the configuration of the project in whose folder this is called.
    options = ["--benchmark-only", *ISOLATED]
    for name in ("device", "data", "threads"):
        value = getattr(arguments, name)
        if value is not None:
            options += [f"--{name}", str(value)]
    if arguments.engines is not None:
        options += ["--engines", ",".join(arguments.engines)]
    if arguments.batch_sizes is not None:
        options += ["--batch-sizes", ",".join(map(str, arguments.batch_sizes))]
    # Of the slow ones this one alone: the others measure the suite itself.
    wanted = ["slow or not slow", "-k", "time_to_accuracy or not slow"] if arguments.time_to_accuracy else ["not slow"]
    options += ["-m", *wanted]
    code = int(pytest.main([*options, str(benchmarks_folder())]))
    return {INTERRUPTED_BY_PYTEST: INTERRUPTED, MISUSED_PYTEST: MISUSED}.get(code, code)


def benchmarks_folder() -> Path:
    """Return where the benchmark files are: beside the package in a checkout, inside it when installed.

    Raises:
        UserError: they are in neither place.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "benchmarks", package.parent / "benchmarks"):
        if (folder / "test_step.py").is_file():
            return folder
    raise UserError(f"the benchmarks are not in {package}: install mnist_loop anew")
