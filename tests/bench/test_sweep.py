"""A sweep: its order, its progress, what it stores, and how it ends when something goes wrong."""

import getpass
import json
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnist_loop.bench import clock, machine, ruler
from mnist_loop.bench.result_file import ResultFile
from mnist_loop.bench.workloads import StepWorkload
from mnist_loop.cli.bench import ISOLATED, PLUGINS, benchmarks_folder
from mnist_loop.errors import UserError
from tests import small_mnist


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A folder with a small MNIST: enough for the benchmarks to run on."""
    root = tmp_path_factory.mktemp("tiny")
    small_mnist.write(root / "MNIST" / "raw", small_mnist.contents())
    return root


@pytest.fixture
def short_rounds(monkeypatch):
    """Let a benchmark take milliseconds."""
    monkeypatch.setattr(clock, "BLOCK_S", 0.002)
    monkeypatch.setattr(clock, "WARM_UP_S", 0.01)
    monkeypatch.setattr(clock, "ROUNDS_S", 0.02)
    monkeypatch.setitem(ruler.GEMM_SIZE, "cpu", 64)
    monkeypatch.setattr(ruler, "COPIED_BYTES", 4096)


@pytest.fixture
def sweep(pytester, tiny_data, short_rounds):
    """Run the benchmarks in this process with short rounds; give the output and the stored results."""

    def run(*options, folder=None):
        result = pytester.runpytest_inprocess(
            *(*ISOLATED, "--data", str(tiny_data), "--device", "cpu", "--threads", "1", "-m", "not slow"),
            *(*options, str(folder or benchmarks_folder())),
            no_reraise_ctrlc=True,
        )
        files = sorted(pytester.path.glob(".benchmarks/*.json"))
        return result, [json.loads(file.read_text()) for file in files]

    return run


def test_a_sweep_measures_prints_and_stores(sweep, pytester):
    """Row by row each batch size's parts, with the remaining time; then the table; all of it in one file."""
    result, (document,) = sweep(
        *("--benchmark-only", "--batch-sizes", "20,8", "--benchmark-json", "theirs.json"),
        *("--engines", "resident"),
    )
    assert result.ret == 0
    parts = ["input pipeline", "step", "end to end", "evaluation", "resident epoch"]
    order = [
        (benchmark["extra_info"]["batch_size"], benchmark["extra_info"]["part"]) for benchmark in document["benchmarks"]
    ]
    assert order == [(size, part) for size in (8, 20) for part in parts]
    lines = [line for line in result.outlines if re.match(r"\s+\d+/10  cpu, batch ", line)]
    assert len(lines) == 10
    assert all(re.search(r"images/s  about \d\d:\d\d left$", line) for line in lines[:-1])
    assert lines[-1].endswith("images/s  ")
    result.stdout.fnmatch_lines(
        ["data: MNIST (modified) from *", "*images per second*", "*input pipeline*", "*stored in *"]
    )
    facts = document["mnist_loop"]
    assert facts["complete"]
    assert facts["data"] == "MNIST (modified)"
    assert facts["threads"] == 1
    assert {"identity", "software", "state", "devices", "planned"} <= facts.keys()
    (file,) = pytester.path.glob(".benchmarks/*.json")
    assert re.fullmatch(rf"{machine.label('cpu')}_cpu_torch-[\w.+-]+_\d{{8}}-\d{{6}}\.json", file.name)
    values = set(re.findall(r'": "([^"]*)"', file.read_text()))
    assert not {socket.gethostname(), getpass.getuser()} & values, "a result can be published"
    _pytest_benchmark_reads_seconds_per_image(document, json.loads(Path("theirs.json").read_text()))


def _pytest_benchmark_reads_seconds_per_image(document, theirs):
    """Its statistics are per image, whatever the length of a block: OPS is images per second."""
    for benchmark, same in zip(document["benchmarks"], theirs["benchmarks"], strict=True):
        stats, info = benchmark["stats"], benchmark["extra_info"]
        assert stats["data"] == [entry["seconds"] / info["images"] for entry in info["rounds"]]
        assert stats["median"] == pytest.approx(statistics.median(stats["data"]))
        assert stats["ops"] == pytest.approx(1 / stats["mean"])
        assert stats["min"] <= stats["q1"] <= stats["median"] <= stats["q3"] <= stats["max"]
        assert same["stats"] == stats


def test_ctrl_c_keeps_what_was_measured(sweep, monkeypatch):
    """An interrupted sweep has stored what was finished, and says how much that is."""
    measured, real = [], clock.measure_workload

    def interrupted_at_the_third(workload, benchmark):
        real(workload, benchmark)
        measured.append(workload.part)
        if len(measured) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(clock, "measure_workload", interrupted_at_the_third)
    result, (document,) = sweep("--benchmark-only", "--batch-sizes", "8")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "interrupted" in result.outlines
    assert "--full-trace" not in result.stdout.str()
    assert "KeyboardInterrupt" not in result.stdout.str()
    assert [benchmark["extra_info"]["part"] for benchmark in document["benchmarks"]] == ["input pipeline", "step"]
    assert not document["mnist_loop"]["complete"]
    assert len(document["mnist_loop"]["planned"]) == 4
    result.stdout.fnmatch_lines(["incomplete: 2 of 4 benchmarks were measured", "stored in *"])


def test_a_wrong_result_is_no_result(sweep, pytester, monkeypatch):
    """A benchmark whose result is wrong fails and is not stored; the others are, also one of another kind."""
    right = StepWorkload.work_on
    monkeypatch.setattr(StepWorkload, "work_on", lambda self, batches: lambda: 1.01 * right(self, batches)())
    own = pytester.makepyfile(test_own="def test_own(benchmark):\n    benchmark(sum, range(100))")
    result, (document,) = sweep("--benchmark-only", "--batch-sizes", "8", str(own))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (4, 1)
    names = [benchmark["name"].split("[")[0] for benchmark in document["benchmarks"]]
    assert names == ["test_input_pipeline", "test_end_to_end", "test_evaluation", "test_own"]
    assert document["mnist_loop"]["data"] == "MNIST (modified)"
    result.stdout.fnmatch_lines(
        ["*test_step*: failed*", "  5/5  test_own*", "*WrongResult: step: the loss is*", "incomplete: 3 of 5*"]
    )


def test_a_full_disk_does_not_end_the_sweep(sweep, monkeypatch):
    """What cannot be stored is shown all the same, and the run fails with the reason."""

    def full(self):
        raise UserError("result.json: cannot be written (No space left on device)")

    monkeypatch.setattr(ResultFile, "write", full)
    result, documents = sweep("--benchmark-only", "--batch-sizes", "8", folder=benchmarks_folder() / "test_step.py")
    assert documents == []
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*input pipeline*step*", "not stored: result.json: cannot be written (No space left*"])


@pytest.mark.parametrize("size", [21, 1_000_000_000])
def test_batches_that_the_data_cannot_fill_are_refused(sweep, size):
    """With the number of images, and exit code 2."""
    result, documents = sweep("--benchmark-only", "--batch-sizes", f"8,{size}")
    assert (result.ret, documents) == (pytest.ExitCode.USAGE_ERROR, [])
    sentence = f"a batch size of {size} found, expected at most 20, the number of test images of MNIST (modified)"
    result.stdout.fnmatch_lines([f"mnist_loop: {sentence}: name smaller ones*"])


def test_results_that_could_not_be_stored_are_not_measured(sweep, pytester):
    """It is told before the first benchmark."""
    (pytester.path / ".benchmarks").write_text("a file")
    result = pytester.runpytest_inprocess(*ISOLATED, "--benchmark-only", str(benchmarks_folder()))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *.benchmarks/result.json: cannot be written (Not a directory), expected *"])
    assert "collected" not in result.stdout.str()


@pytest.fixture
def project(pytester):
    """A checkout with a benchmark and a test that cannot be imported."""
    pytester.makeini("[pytest]\ntestpaths = tests")
    for folder, text in (("tests", "raise ImportError"), ("benchmarks", "def test_own(benchmark): benchmark(sum, [])")):
        (pytester.mkdir(folder) / "test_it.py").write_text(text)

    def run(*options):
        return pytester.runpytest_inprocess(*PLUGINS, "-p", "no:cacheprovider", *options)

    return run


def test_no_test_is_imported_for_the_benchmarks(project):
    """``pytest --benchmark-only`` collects the benchmarks alone; explicit paths are followed."""
    timed = project("--benchmark-only", "--benchmark-max-time", "0.001")
    timed.assert_outcomes(passed=1)
    timed.stdout.fnmatch_lines(["engines are measured where they are asked for: --engines all*"])
    project().assert_outcomes(errors=1)
    project("--benchmark-only", "tests").assert_outcomes(errors=1)
    project("--benchmark-only", "--collect-only", "-q", "benchmarks/test_it.py").stdout.fnmatch_lines(["1 test*"])


def test_only_benchmarks_are_in_the_sweep(request):
    """No test asks for pytest-benchmark's fixture by name: ``pytest --benchmark-only`` would measure it."""
    items = [item for item in request.session.items if "benchmark" in getattr(item, "fixturenames", ())]
    assert {item.path.parent.name for item in items} <= {"benchmarks"}


def test_a_plain_pytest_runs_each_benchmark_once(sweep):
    """Without --benchmark-only nothing is timed and nothing stored, and no engine compiles."""
    result, documents = sweep("--batch-sizes", "8,16")
    assert result.ret == 0
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 8
    assert not {"failed", "skipped", "errors"} & {*outcomes}
    assert documents == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-sizes", "8,x"], "*--batch-sizes: 'x' found, expected a whole number of at least 1"),
        (["--device", "gpu"], "*--device: device 'gpu': not *, expected auto, cpu, cuda, cuda:N or mps"),
        (["--threads", "0"], "*--threads: '0' found, expected a whole number of at least 1"),
        (["--engines", "graphed"], "*--engines graphed: on CUDA alone, which is not measured here; name others"),
    ],
)
def test_a_mistyped_option_is_one_sentence(sweep, options, message):
    """The run ends before it collects, with what was found and what was expected."""
    result, _ = sweep(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_missing_folder_is_one_sentence(sweep):
    """A wrong --data ends the run at once, with exit code 2 and no traceback."""
    result, documents = sweep("--benchmark-only", "--data", "/no/such/folder")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert documents == []
    result.stdout.fnmatch_lines(["mnist_loop: /no/such/folder: no such folder for the data, expected *"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.slow
def test_a_killed_sweep_leaves_what_was_finished(tmp_path, tiny_data):
    """A kill -9 in the middle of a sweep leaves a readable file with the benchmarks that were finished."""
    command = [sys.executable, "-m", "mnist_loop", "bench", "--data", str(tiny_data), "--device", "cpu"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("  3/"):
                break
        time.sleep(1)
        process.send_signal(signal.SIGKILL)
    (file,) = tmp_path.glob(".benchmarks/*.json")
    document = json.loads(file.read_text())
    assert 3 <= len(document["benchmarks"]) < len(document["mnist_loop"]["planned"])
    assert not document["mnist_loop"]["complete"]
