"""The clock: warm-up apart, blocks of a set length, every round checked and stored."""

from datetime import datetime
from itertools import pairwise

import pytest
import torch

from mnist_loop.bench import clock
from mnist_loop.bench.workloads import StepWorkload, TimedWorkload, WrongResult
from tests.bench.test_workloads import small_data


class FakeClock:
    """A clock that only work moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Sleeper(TimedWorkload):
    """Work that takes a known time on the fake clock: much for the first step of all, and the same for each later."""

    part = "sleeper"
    most_steps = 1000
    first_s, step_s = 3.0, 0.004

    def batches(self, steps):
        return [None] * steps

    def work_on(self, batches):
        def work():
            steps = len(batches)
            self.time.now += self.first_s if not self.calls else self.step_s * steps
            self.calls.append(steps)
            return 1.0

        return work

    def expected(self, steps):
        return 1.0


@pytest.fixture
def sleeper(monkeypatch):
    workload = Sleeper(small_data(), 8, torch.device("cpu"))
    workload.time, workload.calls = FakeClock(), []
    monkeypatch.setattr(clock.time, "perf_counter", workload.time)
    return workload


def test_the_first_step_is_a_number_of_its_own(sleeper):
    """What is made on first use shows in the first step's time alone; a block then takes the time set for it."""
    warm = clock.calibrate(sleeper)
    assert warm.first_step_s == pytest.approx(3.0)
    assert warm.steps == 13, "13 steps of 4 ms are the first to make 50 ms"
    assert warm.rounds == 29, "29 blocks of 52 ms are the first to make 1.5 s"


def test_warming_up_takes_its_time(sleeper):
    """A step that is fast from the start is repeated until the warm-up has lasted as long as it must."""
    sleeper.first_s = 0.004
    warm = clock.calibrate(sleeper)
    assert clock.WARM_UP_S <= warm.seconds <= clock.WARM_UP_S + 2 * clock.BLOCK_S


@pytest.mark.parametrize(
    ("step_s", "steps", "rounds"), [(0.5, 1, clock.FEWEST_ROUNDS), (1e-6, 1000, clock.MOST_ROUNDS)]
)
def test_slow_and_fast_steps_have_bounds(sleeper, step_s, steps, rounds):
    """One slow batch is a block, measured ten times; a block of fast ones has an end."""
    sleeper.step_s = step_s
    warm = clock.calibrate(sleeper)
    assert (warm.steps, warm.rounds) == (steps, rounds)


@pytest.fixture
def short_rounds(monkeypatch):
    monkeypatch.setattr(clock, "BLOCK_S", 0.002)
    monkeypatch.setattr(clock, "WARM_UP_S", 0.01)
    monkeypatch.setattr(clock, "ROUNDS_S", 0.03)


@pytest.fixture
def untimed_benchmark(request):
    """pytest-benchmark's fixture. It is not asked for by name, which would make a benchmark of the test."""
    benchmark = request.getfixturevalue("benchmark")
    assert benchmark.disabled
    return benchmark


@pytest.fixture
def timed_benchmark(untimed_benchmark, monkeypatch):
    """The same, timing although nobody asked it to."""
    benchmark, stats = untimed_benchmark, []
    monkeypatch.setattr(benchmark, "disabled", False)
    monkeypatch.setattr(benchmark, "_add_stats", stats.append)
    return benchmark


@pytest.mark.usefixtures("short_rounds")
def test_every_round_is_stored(timed_benchmark):
    """Each round has its start and its seconds, in order; rates are of images, between their quartiles."""
    clock.measure_workload(StepWorkload(small_data(), 8, torch.device("cpu")), timed_benchmark)
    info = timed_benchmark.extra_info
    rounds = info["rounds"]
    assert len(rounds) >= clock.FEWEST_ROUNDS
    starts = [datetime.fromisoformat(entry["start"]) for entry in rounds]
    assert all(earlier < later for earlier, later in pairwise(starts))
    assert all(entry["seconds"] > 0 for entry in rounds)
    assert info["images"] == 8 * info["steps"]
    rates = sorted(info["images"] / entry["seconds"] for entry in rounds)
    rate = info["images_per_second"]
    assert rates[0] <= rate["q1"] <= rate["median"] <= rate["q3"] <= rates[-1]
    assert info["first_step_s"] > 0
    assert (info["part"], info["batch_size"], info["device"], info["data"]) == ("step", 8, "cpu", "random")
    assert info["threads"] == torch.get_num_threads()


@pytest.mark.usefixtures("short_rounds")
def test_a_wrong_round_stops_the_measurement(timed_benchmark, monkeypatch):
    """One wrong result among the rounds is an error, and no rate is told."""
    right, calls = StepWorkload.prepare, []

    def sometimes_wrong(self, steps):
        calls.append(steps)
        work = right(self, steps)
        return (lambda: work() * 1.01) if len(calls) > 8 else work

    monkeypatch.setattr(StepWorkload, "prepare", sometimes_wrong)
    with pytest.raises(WrongResult):
        clock.measure_workload(StepWorkload(small_data(), 8, torch.device("cpu")), timed_benchmark)
    assert "images_per_second" not in timed_benchmark.extra_info


def test_untimed_it_still_checks(untimed_benchmark, monkeypatch):
    """A plain ``pytest`` runs each benchmark once and refuses a wrong result all the same."""
    right = StepWorkload.prepare
    monkeypatch.setattr(StepWorkload, "prepare", lambda self, steps: lambda: right(self, steps)() * 1.01)
    with pytest.raises(WrongResult):
        clock.measure_workload(StepWorkload(small_data(), 8, torch.device("cpu")), untimed_benchmark)
