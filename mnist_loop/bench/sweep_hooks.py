"""A timed run of the benchmarks as pytest hooks: their order, the progress, and a file stored after each benchmark."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_loop.bench import machine
from mnist_loop.bench.forecast import BenchmarkCell, Forecast, cost_of, stored_costs
from mnist_loop.bench.result_file import ResultFile, per_image
from mnist_loop.bench.ruler import measure_ruler
from mnist_loop.bench.workloads import KINDS
from mnist_loop.errors import UserError
from mnist_loop.support.files import check_room
from mnist_loop.support.numbers import Quantity, Unit

FILE_STORAGE = "file://"
DTYPE = "float32"  # of the lesson, and of all its benchmarks
DEFAULT_FOLDER = Path(".benchmarks")
PARTS = tuple(kind.part for kind in KINDS)


class SweepHooks:
    """The pytest hooks of one timed run.

    Attributes:
        results: the file of the run; None before its first result.
        problem: why the file could not be written last time; None where it was.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.results: ResultFile | None = None
        self.problem: str | None = None
        self.to_do: list[pytest.Item] = []
        self.done = 0
        self.ended: float | None = None  # the benchmark before

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
        """Print the lines of progress without file names and dots between them; see that results can be stored."""
        if not self.config.option.benchmark_only:
            return
        reporter = self._reporter()
        if reporter is not None:
            reporter.showfspath = False
        if not self.config.option.collectonly:
            try:
                check_room(self._folder() / "result.json")
            except UserError as error:
                raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Count a benchmark that passed, and print no dot for it."""
        is_benchmark = any(item.nodeid == report.nodeid for item in self.to_do)
        return ("passed", "", "") if is_benchmark and report.when == "call" and report.passed else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Store the result of a benchmark as soon as it has passed, and print the progress."""
        report = yield
        if call.when == "call" and item in self.to_do:
            self.done += 1
            benchmark = item.funcargs["benchmark"]  # type: ignore[attr-defined]  # every test function has funcargs
            if report.passed and benchmark.stats is not None:
                self._store(benchmark)
            self._count(benchmark.extra_info, call.duration)
            self.line(f"{self.done:>3}/{len(self.to_do)}  {_progress(item, report, benchmark)}  {self._remaining()}")
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell of Ctrl-C, or of why nothing can be measured, in our words: pytest's are of its classes and options."""
        reporter, error = self._reporter(), excinfo.value
        text = str(error) if isinstance(error, pytest.exit.Exception) else "interrupted"
        if self.config.option.benchmark_only and reporter is not None:
            vars(reporter)["_report_keyboardinterrupt"] = lambda: self.line(text)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run whose results could not be stored."""
        if self.problem and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(tryfirst=True)
    def pytest_benchmark_generate_machine_info(self) -> dict[str, Any]:
        """Describe the machine for pytest-benchmark, without its host name."""
        return {"node": machine.label(), **machine.identity(), "software": machine.software()}

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Give the files that pytest-benchmark writes the content of our own."""
        if self.results is not None:
            output_json["mnist_loop"] = self.results.document["mnist_loop"]
        per_image(output_json)

    def _store(self, benchmark: Any) -> None:
        if self.results is None:
            self.results = self._new_file(benchmark)
        document = self.config.hook.pytest_benchmark_generate_json(
            config=self.config,
            benchmarks=[benchmark.stats],
            include_data=True,
            **self._shared,
        )
        try:
            self.results.add(per_image(document))
            self.problem = None
        except UserError as error:
            self.problem = str(error)

    @cached_property
    def _shared(self) -> dict[str, Any]:
        """What pytest-benchmark writes of the machine and of the commit; to ask git takes a moment each time."""
        hook = self.config.hook
        return {
            "machine_info": hook.pytest_benchmark_generate_machine_info(config=self.config),
            "commit_info": hook.pytest_benchmark_generate_commit_info(config=self.config),
        }

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
            "ruler": {device: asdict(measure_ruler(torch.device(device))) for device in devices},
        }
        stem = f"{machine.label(devices[-1])}_{'+'.join(devices)}_torch-{software['torch']}"
        return ResultFile(self._folder(), stem, facts, [item.name for item in self.to_do])

    def _folder(self) -> Path:
        storage = self.config.getoption("benchmark_storage")
        return Path(storage.removeprefix(FILE_STORAGE)) if storage.startswith(FILE_STORAGE) else DEFAULT_FOLDER

    @cached_property
    def _forecast(self) -> Forecast:
        stored = stored_costs(self._folder(), machine.identity()["hash"], str(torch.__version__))
        return Forecast([_cell(item) for item in self.to_do], stored)

    def _count(self, info: dict[str, Any], seconds: float) -> None:
        """Note what a benchmark took: from the end of the one before, or, of the first one, by itself."""
        now = time.perf_counter()
        self._forecast.add(cost_of(info, seconds if self.ended is None else now - self.ended))
        self.ended = now

    def _remaining(self) -> str:
        if not self._forecast.waiting:
            return ""
        minutes, seconds = divmod(round(self._forecast.remaining_s()), 60)
        return f"about {minutes:02}:{seconds:02} left"

    def _reporter(self) -> pytest.TerminalReporter | None:
        return self.config.pluginmanager.get_plugin("terminalreporter")


def _place(item: pytest.Item) -> tuple[bool, str, float, int, str]:
    cell = _cell(item)
    return (
        not cell.device,  # benchmarks of another kind come last
        cell.device,
        float("inf") if cell.batch_size is None else cell.batch_size,
        PARTS.index(cell.part) if cell.part in PARTS else len(PARTS),
        item.nodeid,
    )


def _cell(item: pytest.Item) -> BenchmarkCell:
    """Return the cell of an item; its part is the name of the test, after that of the engine if it has one."""
    parameters = _parameters(item)
    name = getattr(item, "originalname", item.name).removeprefix("test_").replace("_", " ")
    part = f"{parameters['engine']} {name}" if "engine" in parameters else name
    return BenchmarkCell(part, parameters.get("device", ""), parameters.get("batch_size"))


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _progress(item: pytest.Item, report: pytest.TestReport, benchmark: Any) -> str:
    info = benchmark.extra_info
    if not report.passed:
        return f"{item.name}: {report.outcome}"
    if "images_per_second" not in info:
        return item.name
    rate = Quantity(info["images_per_second"]["median"], Unit.IMAGES_PER_SECOND)
    return f"{info['device']}, batch {info['batch_size']}, {info['part']}: {rate}"
