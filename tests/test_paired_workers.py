"""Workers of a comparison: real processes that are started, asked, restarted and lost."""

import os
import signal
import time

import psutil
import pytest
import torch

from mnist_loop.data import load_data
from mnist_loop.errors import UserError
from mnist_loop.measure.paired.arms import PACKAGE, parse
from mnist_loop.measure.paired.crew import Crew
from mnist_loop.measure.paired.plan import Plan
from mnist_loop.measure.paired.processes import Host, WorkerLost
from mnist_loop.measure.workloads import Step

STEPS = 5


@pytest.fixture(scope="module")
def crew():
    arm = parse(".")
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


def prepare(worker, **settings):
    defaults = {"part": "step", "batch_size": 16, "device": "cpu", "threads": 1, "dtype": "float32", "slowdown": 0.0}
    return worker.ask("prepare", **{**defaults, **settings})


def test_arms_of_one_environment_share_a_host(crew):
    """The import of torch is paid for once, and the data are read once."""
    assert len(crew.hosts) == 1
    assert crew.data_name == "Digits"


def test_a_block_computes_what_the_loop_computes(workers, digits):
    """Bitwise the loss of the reference loop on the same batches, in every worker, at each block."""
    workload = Step(digits, 16, torch.device("cpu"))
    expected = workload.prepare(STEPS + 2)()
    found = [worker.ask("block", steps=STEPS)["found"] for worker in workers for _ in range(2)]
    assert found == [expected] * 4
    assert workers[0].ask("expected", steps=STEPS)["expected"] == workload.expected(STEPS + 2)
    losses = workers[0].ask("losses")["losses"]
    assert losses == [workload.prepare(count)() for count in range(1, len(losses) + 1)]


def test_a_slowdown_takes_its_share_of_each_step(workers):
    """A block with a slowdown of 300 % takes four times as long: the fastest of each, by turns."""
    prepare(workers[1], slowdown=3.0, batch_size=1024)
    prepare(workers[0], batch_size=1024)
    times = [[worker.ask("block", steps=4)["seconds"] for worker in workers] for _ in range(10)]
    plain, slow = (min(column) for column in zip(*times, strict=True))
    assert 2 < slow / plain < 8


def test_settings_are_taken(workers):
    """Threads, dtype and part: the answer says what holds."""
    assert prepare(workers[0], threads=2)["threads"] == 2
    prepare(workers[0], dtype="float64")
    exact = workers[0].ask("block", steps=STEPS)["found"]
    assert abs(exact - workers[0].ask("expected", steps=STEPS)["expected"]) < 1e-12
    prepare(workers[0], part="input pipeline")
    assert workers[0].ask("block", steps=STEPS)["found"] == workers[0].ask("expected", steps=STEPS)["expected"]


def test_the_facts_are_those_of_the_arm(crew):
    """Versions, identity and state; no host name and no path."""
    facts = crew.facts(crew.arms[0])
    assert facts["software"]["torch"] == torch.__version__
    assert facts["machine"]["hash"]
    assert os.uname().nodename not in str(facts)


def test_what_an_arm_cannot_do_is_one_sentence(workers):
    """With the label of the arm before it; the worker goes on."""
    with pytest.raises(UserError, match=r"^\.: device 'cuda:99': not on this machine"):
        prepare(workers[0], device="cuda:99")
    with pytest.raises(UserError, match=r"^\.: KeyError: 'nonsense'$"):
        workers[0].ask("nonsense")
    assert prepare(workers[0])["threads"] == 1


def test_a_worker_that_is_killed_is_missed_at_once(crew):
    """By the sentence that says which, and the others live on."""
    crew.generation(16, [0, 1])
    victim = min(
        psutil.Process(crew.hosts[crew.arms[0].host].process.pid).children(), key=lambda one: one.create_time()
    )
    victim.send_signal(signal.SIGKILL)
    with pytest.raises(WorkerLost, match=r"^\.: its process ended while asked for 'block'"):
        crew.workers[0].ask("block", steps=1)
    assert crew.workers[1].ask("block", steps=1)["seconds"] > 0
    crew.dismiss()


def test_a_worker_that_hangs_is_given_up(workers):
    """After the time limit, not before."""
    with pytest.raises(WorkerLost, match=r"^\.: no answer for 0 s when asked for 'block'"):
        workers[0].ask("block", timeout_s=0.01, steps=4000)


def test_a_generation_leaves_no_process_behind(crew):
    """Workers end when their connection is closed, and are no zombies."""
    host = psutil.Process(crew.hosts[crew.arms[0].host].process.pid)
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
    host = Host(parse(str(broken)), tmp_path)
    with pytest.raises(WorkerLost, match=r"python ended with exit code 3; its last words: this is no Python$"):
        host.connect()
    host.close()
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('No module named torch')")
    host = Host(parse(f".:PYTHONPATH={tmp_path}"), tmp_path)
    with pytest.raises(UserError, match=r": ImportError: No module named torch$"):
        host.connect()
    host.close()


def test_a_checkout_brings_its_own_loop(tmp_path):
    """Its loop, model and data; the measuring is the comparison's."""
    for file in PACKAGE.glob("*.py"):
        (tmp_path / "mnist_loop").mkdir(exist_ok=True)
        (tmp_path / "mnist_loop" / file.name).write_text(file.read_text())
    loop = tmp_path / "mnist_loop" / "loop.py"
    loop.write_text(loop.read_text().replace("        optimizer.step()\n", ""))
    arm = parse(str(tmp_path))
    checkout = Crew([arm], Plan(data="digits", device="cpu"), lambda _: None)
    try:
        checkout.start()
        checkout.generation(16, [0])
        losses = checkout.workers[0].ask("losses")["losses"]
        reference = [Step(load_data("digits"), 16, torch.device("cpu")).prepare(count)() for count in (1, 2)]
    finally:
        checkout.close()
    assert losses[0] == reference[0]
    assert losses[1] != reference[1]
