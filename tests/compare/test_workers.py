"""Workers of a comparison: real processes that are started, asked, restarted and lost."""

import json
import os
import shutil
import signal
import statistics
import time
from types import SimpleNamespace

import psutil
import pytest
import torch

from mnist_loop.bench.workloads import StepWorkload
from mnist_loop.compare import crew as crew_module
from mnist_loop.compare.arms import PACKAGE, parse_arm
from mnist_loop.compare.comparison import LEAD_IN
from mnist_loop.compare.crew import Crew
from mnist_loop.compare.hosts import HostProcess
from mnist_loop.compare.plan import Plan
from mnist_loop.compare.worker import Turns, lower_quartile
from mnist_loop.data import load_data
from mnist_loop.errors import UserError
from mnist_loop.support.wire import WorkerLost

STEPS = 5


@pytest.fixture(scope="module")
def crew():
    arm = parse_arm(".")
    made = Crew([arm, arm], Plan(data="digits", device="cpu"), lambda _: None)
    made.start()
    yield made
    made.close()
    assert not made.folder.exists()


@pytest.fixture
def workers(crew):
    crew.generation(16, [1, 0])
    yield crew.workers
    crew.dismiss()


def host_of(crew):
    return crew.hosts[crew.key(crew.arms[0])]


def prepare(worker, **settings):
    defaults = {
        "part": "step",
        "batch_size": 16,
        "device": "cpu",
        "threads": 1,
        "dtype": "float32",
        "engine": "reference",
    }
    return worker.ask("prepare", **{**defaults, "cpus": [], "slowdown": 0.0, **settings})


def train(worker, blocks=2, steps=STEPS, lead_in=LEAD_IN):
    """Train in turns; return the answers to each."""
    assert worker.ask("begin", lead_in=lead_in, steps=steps, most=lead_in + blocks * steps) == {"ready": True}
    return [*(worker.ask("go") for _ in range(blocks)), worker.ask("end")]


def test_arms_of_one_environment_share_a_host(crew):
    """The import of torch is paid for once, and the data are read once."""
    assert len(crew.hosts) == 1
    assert crew.data_name == "Digits"


def test_the_control_is_to_the_first_arm_as_the_others_are():
    """In its host where they are settings of one environment; else in one of its own; without fork each has its own."""
    arm, other, elsewhere = parse_arm("."), parse_arm("threads=2"), parse_arm(".:OMP_NUM_THREADS=2")
    settings = Crew([arm, other, arm.again()], Plan(), lambda _: None)
    assert not settings.apart
    assert len({settings.key(one) for one in settings.arms}) == 1
    environments = Crew([arm, elsewhere, arm.again()], Plan(), lambda _: None)
    assert environments.apart
    assert len({environments.key(one) for one in environments.arms}) == 3


def test_without_fork_each_arm_has_a_process_of_its_own(monkeypatch):
    """Which ends with the generation; the others live on."""
    monkeypatch.setattr(crew_module, "CAN_FORK", False)
    arm, other = parse_arm("."), parse_arm("threads=2")
    made = Crew([arm, other, arm.again()], Plan(), lambda _: None)
    assert len({made.key(one) for one in made.arms}) == 3


def test_a_training_in_turns_computes_what_the_loop_computes(workers, digits):
    """Bitwise the loss of the reference loop on the same batches, in every worker, at each training."""
    workload = StepWorkload(digits, 16, torch.device("cpu"))
    expected = workload.prepare(LEAD_IN + 2 * STEPS)()
    assert [train(worker)[-1]["found"] for worker in workers for _ in range(2)] == [expected] * 4
    steps = LEAD_IN + 2 * STEPS
    assert workers[0].ask("expected", steps=steps)["expected"] == workload.expected(steps)
    losses = workers[0].ask("losses")["losses"]
    assert losses == [workload.prepare(count)() for count in range(1, len(losses) + 1)]


def test_a_training_that_ends_early_has_computed_what_it_did(workers, digits):
    """Only the batches that it was its turn for."""
    assert workers[0].ask("begin", lead_in=1, steps=STEPS, most=1000) == {"ready": True}
    workers[0].ask("go")
    assert workers[0].ask("end")["found"] == StepWorkload(digits, 16, torch.device("cpu")).prepare(1 + STEPS)()


def test_each_arm_trains_while_the_other_waits(workers, digits):
    """Block by block, in any order: what one does changes nothing of what the other computes."""
    expected = StepWorkload(digits, 16, torch.device("cpu")).prepare(LEAD_IN + 2 * STEPS)()
    for worker in workers:
        worker.ask("begin", lead_in=LEAD_IN, steps=STEPS, most=LEAD_IN + 2 * STEPS)
    for index in (0, 1, 1, 0):
        assert workers[index].ask("go")["seconds"] > 0
    assert [worker.ask("end")["found"] for worker in workers] == [expected] * 2


def test_a_block_counts_by_its_undisturbed_steps(workers):
    """The lower quartile of the steps' times, for all of them; three quarters of the steps take no less."""
    for reply in train(workers[0], blocks=20)[:-1]:
        assert 0 < 0.75 * reply["undisturbed"] <= reply["seconds"]
    assert lower_quartile([5.0, 1.0, 4.0, 2.0, 3.0]) == 2.0
    assert lower_quartile([7.0]) == 7.0


@pytest.mark.parametrize("engine", ["resident", "handwritten", "native"])
def test_an_engine_trains_in_turns(workers, engine):
    """To what the lesson computes."""
    assert prepare(workers[0], engine=engine)["at_once"] == 1
    prepare(workers[1])
    found, expected = (train(worker)[-1]["found"] for worker in workers)
    assert found == pytest.approx(expected, rel=1e-5)


def test_steps_that_are_made_at_once_are_timed_together():
    """Of three calls of four steps each, the lower quartile is that of a call."""
    sent = []
    worker = SimpleNamespace(
        slowdown=0.0,
        wait=lambda: None,
        connection=SimpleNamespace(send_bytes=lambda content: sent.append(json.loads(content))),
        workload=SimpleNamespace(
            device=torch.device("cpu"), at_once=4, batches=lambda most: iter([0.0, 0.0, 0.0, 0.02] * (most // 4))
        ),
    )
    for pause in Turns(worker, 0, 12, 12)._block():
        time.sleep(pause)  # all the work of a call is done when its last batch has come
    assert 0.06 <= sent[0]["undisturbed"] <= sent[0]["seconds"]


def test_a_slowdown_takes_its_share_of_each_step(workers):
    """With a slowdown of 300 % a block takes four times as long, by the median of many turns."""
    prepare(workers[1], slowdown=3.0, batch_size=256)
    prepare(workers[0], batch_size=256)
    for worker in workers:
        worker.ask("begin", lead_in=LEAD_IN, steps=2, most=100)
    times = [[worker.ask("go")["undisturbed"] for worker in workers] for _ in range(40)]
    plain, slow = (statistics.median(column) for column in zip(*times, strict=True))
    assert 2 < slow / plain < 8


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_arms_with_as_many_threads_are_held_to_the_same_cpus(crew):
    """Those of this process, the last ones of them; one with more threads has more."""
    allowed = sorted(os.sched_getaffinity(0))
    assert crew.cpus(1) == allowed[-1:]
    assert crew.cpus(len(allowed)) == crew.cpus(10_000) == allowed
    crew.generation(16, [0, 1])
    host = psutil.Process(host_of(crew).process.pid)
    affinities = [child.cpu_affinity() for child in host.children()]
    crew.dismiss()
    assert affinities == [allowed[-1:]] * 2
    assert host.cpu_affinity() == allowed


def test_settings_are_taken(workers):
    """Threads, dtype and part: the answer says what holds."""
    assert prepare(workers[0], threads=2)["threads"] == 2
    prepare(workers[0], dtype="float64")
    steps = LEAD_IN + 2 * STEPS
    assert abs(train(workers[0])[-1]["found"] - workers[0].ask("expected", steps=steps)["expected"]) < 1e-12
    prepare(workers[0], part="input pipeline")
    assert train(workers[0])[-1]["found"] == workers[0].ask("expected", steps=steps)["expected"]


def test_the_facts_are_those_of_the_arm(crew):
    """Versions, identity and state; no host name and no path."""
    facts = crew.facts(crew.arms[0])
    assert facts["software"]["torch"] == torch.__version__
    assert facts["machine"]["hash"]
    assert os.uname().nodename not in str(facts)


def test_what_an_arm_cannot_do_is_one_sentence(workers):
    """With the label of the arm before it; the worker goes on."""
    with pytest.raises(UserError, match=r"^\.: a batch size of 60001 found, expected at most 60000, .* training im"):
        prepare(workers[0], batch_size=60_001)
    with pytest.raises(UserError, match=r"^\.: a batch size of 10001 found, expected at most 10000, .* test images"):
        prepare(workers[0], batch_size=10_001, part="evaluation")
    with pytest.raises(UserError, match=r"^\.: device 'cuda:99': not on this machine"):
        prepare(workers[0], device="cuda:99")
    with pytest.raises(UserError, match=r"^\.: KeyError: 'nonsense'$"):
        workers[0].ask("nonsense")
    assert prepare(workers[0])["threads"] == 1


def test_a_worker_that_is_killed_is_missed_at_once(crew):
    """By the sentence that says which, and the others live on."""
    crew.generation(16, [0, 1])
    victim = min(psutil.Process(host_of(crew).process.pid).children(), key=lambda one: one.create_time())
    victim.send_signal(signal.SIGKILL)
    with pytest.raises(WorkerLost, match=r"^\.: its process ended while asked for 'begin'"):
        train(crew.workers[0])
    assert train(crew.workers[1])[0]["seconds"] > 0
    crew.dismiss()


def test_a_worker_that_hangs_is_given_up(workers):
    """After the time limit, not before."""
    workers[0].ask("begin", lead_in=1, steps=4000, most=4001)
    with pytest.raises(WorkerLost, match=r"^\.: no answer for 0 s, the time limit, when asked for 'go'"):
        workers[0].ask("go", timeout_s=0.01)


def test_a_generation_leaves_no_process_behind(crew):
    """Workers end when their connection is closed, and are no zombies."""
    host = psutil.Process(host_of(crew).process.pid)
    for _ in range(3):
        crew.generation(16, [0, 1])
    crew.dismiss()
    end = time.monotonic() + 10
    while host.children() and time.monotonic() < end:
        time.sleep(0.02)
    assert host.children() == []


def test_a_python_that_cannot_do_it_is_one_sentence(tmp_path):
    """One without torch, and one that is no Python."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho this is no Python >&2\nexit 3\n")
    broken.chmod(0o755)
    host = HostProcess(parse_arm(str(broken)), tmp_path)
    with pytest.raises(WorkerLost, match=r"python ended with exit code 3; its last words: this is no Python$"):
        host.connect()
    host.close()
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('No module named torch')")
    host = HostProcess(parse_arm(f".:PYTHONPATH={tmp_path}"), tmp_path)
    with pytest.raises(UserError, match=r": ImportError: No module named torch$"):
        host.connect()
    host.close()


@pytest.mark.slow
def test_a_checkout_brings_its_own_loop(tmp_path):
    """Its loop, model and data; the measuring is the comparison's."""
    shutil.copytree(PACKAGE, tmp_path / "mnist_loop", ignore=shutil.ignore_patterns("bench", "support", "__pycache__"))
    loop = tmp_path / "mnist_loop" / "loop.py"
    loop.write_text(loop.read_text().replace("        optimizer.step()\n", ""))
    arm = parse_arm(str(tmp_path))
    checkout = Crew([arm], Plan(data="digits", device="cpu"), lambda _: None)
    try:
        checkout.start()
        checkout.generation(16, [0])
        losses = checkout.workers[0].ask("losses")["losses"]
        reference = [StepWorkload(load_data("digits"), 16, torch.device("cpu")).prepare(count)() for count in (1, 2)]
    finally:
        checkout.close()
    assert losses[0] == reference[0]
    assert losses[1] != reference[1]
