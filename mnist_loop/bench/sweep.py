"""A sweep: benchmarks in an order that fills the table row by row, each stored as soon as it is measured."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from mnist_loop.bench import machine
from mnist_loop.bench.results import ResultFile, per_image
from mnist_loop.errors import UserError
from mnist_loop.report.contenders import PARTS
from mnist_loop.report.reading.node import InvalidResult
from mnist_loop.report.reading.sweep_file import read_sweep
from mnist_loop.report.tables.terminal import to_terminal
from mnist_loop.report.tables.throughput import throughput_table
from mnist_loop.support.numbers import short

FILE_STORAGE = "file://"
DTYPE = "float32"  # of the lesson, and of all its benchmarks
DEFAULT_FOLDER = Path(".benchmarks")


class Sweep:
    """The pytest hooks of one timed run of the benchmarks."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.results: ResultFile | None = None
        self.problem: str | None = None
        self.to_do: list[pytest.Item] = []
        self.seconds: dict[str, list[float]] = defaultdict(list)  # by the benchmark's function
        self.done = 0

    def line(self, text: str) -> None:
        """Print a line in the run's output."""
        reporter = self._reporter()
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(text)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort the benchmarks by device and batch size; leave the tests out where only benchmarks were asked for."""
        benchmarks = [item for item in items if "benchmark" in getattr(item, "fixturenames", ())]
        benchmarks.sort(key=_place)
        others = [item for item in items if item not in set(benchmarks)]
        if self.config.option.benchmark_only and others:
            self.config.hook.pytest_deselected(items=others)
            others = []
        items[:] = others + benchmarks
        self.to_do = benchmarks

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        """Let the lines of progress stand alone, without file names and dots between them."""
        reporter = self._reporter()
        if reporter is not None and self.config.option.benchmark_only:
            reporter.showfspath = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Count a benchmark that passed, and print no dot for it."""
        is_benchmark = any(item.nodeid == report.nodeid for item in self.to_do)
        return ("passed", "", "") if is_benchmark and report.when == "call" and report.passed else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Store what a benchmark measured as soon as it has passed, and say how far the sweep has come."""
        report = yield
        if call.when == "call" and item in self.to_do:
            self.done += 1
            self.seconds[_function(item)].append(call.duration)
            benchmark = item.funcargs["benchmark"]  # type: ignore[attr-defined]  # every test function has funcargs
            if report.passed and benchmark.stats is not None:
                self._store(benchmark)
            self.line(f"{self.done:>3}/{len(self.to_do)}  {_told(item, report, benchmark)}  {self._remaining()}")
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, where it is stored, and what is missing."""
        if self.results is None:
            return
        terminalreporter.section("images per second", sep="=")
        try:
            table = throughput_table(read_sweep(self.results.document, self.results.path))
            terminalreporter.write(to_terminal([table], terminalreporter._tw._file))
        except InvalidResult as error:  # benchmarks of another kind alone
            terminalreporter.write_line(str(error))
        if self.problem:
            terminalreporter.write_line(f"not stored: {self.problem}", red=True)
        else:
            terminalreporter.write_line(f"stored in {self.results.path}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run whose results could not be stored."""
        if self.problem and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(tryfirst=True)
    def pytest_benchmark_generate_machine_info(self) -> dict[str, Any]:
        """Say what pytest-benchmark asks of a machine, without its host name."""
        return {"node": machine.label(), **machine.identity(), "software": machine.software()}

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Write the files that pytest-benchmark was asked for as we write our own."""
        if self.results is not None:
            output_json["mnist_loop"] = self.results.document["mnist_loop"]
        per_image(output_json)

    def _store(self, benchmark: Any) -> None:
        hook = self.config.hook
        if self.results is None:
            self.results = self._new_file(benchmark)
        document = hook.pytest_benchmark_generate_json(
            config=self.config,
            benchmarks=[benchmark.stats],
            include_data=True,
            machine_info=hook.pytest_benchmark_generate_machine_info(config=self.config),
            commit_info=hook.pytest_benchmark_generate_commit_info(config=self.config),
        )
        try:
            self.results.add(per_image(document))
            self.problem = None
        except UserError as error:
            self.problem = str(error)

    def _new_file(self, benchmark: Any) -> ResultFile:
        software = machine.software()
        devices = sorted({_parameters(item).get("device", "cpu") for item in self.to_do})
        facts = {
            "identity": machine.identity(),
            "software": software,
            "state": machine.current_state(),
            "devices": devices,
            "data": benchmark.extra_info.get("data"),
            "threads": benchmark.extra_info.get("threads"),
            "dtype": DTYPE,
            "ruler": {device: asdict(measure_ruler(device)) for device in devices},
        }
        stem = f"{machine.label(devices[-1])}_{'+'.join(devices)}_torch-{software['torch']}"
        return ResultFile(self._folder(), stem, facts, [item.name for item in self.to_do])

    def _folder(self) -> Path:
        storage = self.config.getoption("benchmark_storage")
        return Path(storage.removeprefix(FILE_STORAGE)) if storage.startswith(FILE_STORAGE) else DEFAULT_FOLDER

    def _remaining(self) -> str:
        waiting = self.to_do[self.done :]
        if not waiting:
            return ""
        overall = mean(second for seconds in self.seconds.values() for second in seconds)
        estimate = sum(mean(self.seconds.get(_function(item)) or [overall]) for item in waiting)
        return f"about {time.strftime('%M:%S', time.gmtime(estimate))} left"

    def _reporter(self) -> pytest.TerminalReporter | None:
        return self.config.pluginmanager.get_plugin("terminalreporter")


def measure_ruler(device: str) -> Any:
    """Measure what the machine itself can do; torch is imported by now."""
    import torch

    from mnist_loop.bench import ruler

    return ruler.measure(torch.device(device))


def _place(item: pytest.Item) -> tuple[bool, str, float, int, str]:
    parameters = _parameters(item)
    order = [part.replace(" ", "_") for part in PARTS]
    name = _function(item).removeprefix("test_")
    return (
        "device" not in parameters,  # benchmarks of another kind come last
        parameters.get("device", ""),
        parameters.get("batch_size", float("inf")),
        order.index(name) if name in order else len(order),
        item.nodeid,
    )


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _function(item: pytest.Item) -> str:
    return getattr(item, "originalname", item.name)


def _told(item: pytest.Item, report: pytest.TestReport, benchmark: Any) -> str:
    info = benchmark.extra_info
    if not report.passed:
        return f"{item.name}: {report.outcome}"
    if "images_per_second" not in info:
        return item.name
    rate = short(info["images_per_second"]["median"])
    return f"{info['device']}, batch {info['batch_size']}, {info['part']}: {rate} images/s"
