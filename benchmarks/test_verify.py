"""Verification: seconds of verifying the reference, and seconds that the recorder adds to a step.

The numbers are in each benchmark's ``extra_info``, in wall time.
"""

import importlib
import time
from datetime import datetime, timezone
from statistics import median

import pytest
import torch

from mnist_loop.bench import machine
from mnist_loop.loop import train_one_epoch
from mnist_loop.verification.binding.bind import bind
from mnist_loop.verification.binding.intentions import DEFAULT
from mnist_loop.verification.cases import world
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.options import Options
from mnist_loop.verification.recording import global_state as state_of_process
from mnist_loop.verification.recording.recorder import record
from mnist_loop.verification.verify import verify

from .quartiles import quartiles

# Not in the default sweep: run it with -m slow.
pytestmark = pytest.mark.slow

SPEC = "mnist_loop.loop:train_one_epoch"
VERIFICATIONS = 5
PAIRS = 20  # of blocks with and without the recorder, in the order A B B A
STEPS = 64  # in a block; a step of a case takes a fraction of a millisecond


@pytest.fixture(scope="module", autouse=True)
def compiler():
    """Torch imports its compiler with the first optimizer, and that sets a variable of the environment."""
    importlib.import_module("torch._dynamo")


@pytest.fixture
def facts(threads):
    """The facts that each benchmark stores."""
    return {"device": "cpu", "threads": threads, "data": "made up for each case", "state": machine.current_state()}


def test_verification(benchmark, facts):
    """Seconds of one verification of the reference, battery and random cases, in a process of its own."""
    verdicts, starts = [], []
    options = Options(random_cases=0) if benchmark.disabled else Options()
    warm_up_s = 0.0 if benchmark.disabled else _seconds(lambda: verify(SPEC, options=options))

    def run():
        starts.append(datetime.now(timezone.utc).isoformat())
        verdicts.append(verify(SPEC, options=options))

    benchmark.pedantic(run, rounds=VERIFICATIONS)
    for verdict in verdicts:
        assert verdict.failed == {}, f"the reference breaks {verdict.failed}"
        assert verdict.random_cases == options.random_cases
        assert not verdict.not_isolated
    seconds = [verdict.seconds for verdict in verdicts]
    benchmark.extra_info |= {
        **facts,
        "cases": len(verdicts[0].judgements),
        "warm_up_s": warm_up_s,
        "seconds": quartiles(seconds),
        "rounds": [{"start": start, "seconds": second} for start, second in zip(starts, seconds, strict=True)],
    }


def test_recording(benchmark, facts):
    """Seconds that the recorder adds to a step: blocks with and without it by turns, compared in pairs."""
    steps = 4 if benchmark.disabled else STEPS
    case = Case(model="probe", samples=4 * steps, epochs=1, seed=3)
    warm_up_s = _seconds(lambda: [_block(case, recorded) for recorded in (False, True)])
    rounds = []

    def run():
        start = datetime.now(timezone.utc).isoformat()
        seconds: dict[bool, float] = {False: 0.0, True: 0.0}
        ends = []
        for recorded in (False, True, True, False):
            taken, end = _block(case, recorded)
            seconds[recorded] += taken / (2 * steps)
            ends.append(end)
        rounds.append({"start": start, "bare_s": seconds[False], "recorded_s": seconds[True]})
        return ends

    ends = benchmark.pedantic(run, rounds=PAIRS)
    for end in ends:
        assert all(torch.equal(end[name], ends[0][name]) for name in ends[0]), "the recorder changes the result"
    benchmark.extra_info |= {
        **facts,
        "steps": steps,
        "warm_up_s": warm_up_s,
        "bare_step_s": median(pair["bare_s"] for pair in rounds),
        "recorded_step_s": median(pair["recorded_s"] for pair in rounds),
        "recorded_to_bare": quartiles([pair["recorded_s"] / pair["bare_s"] for pair in rounds]),
        "rounds": rounds,
    }


def _block(case, recorded):
    """Train once through the case's data; return the seconds that the loop took, and where the parameters ended."""
    seen = []

    def loop(model, train_loader, loss_fn, optimizer, device):
        start = time.perf_counter()
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        seen.append((time.perf_counter() - start, {n: p.detach().clone() for n, p in model.named_parameters()}))

    if recorded:
        record(bind(loop), case)
    else:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the recorder does
        with state_of_process.generators_restored():
            state_of_process.seed_everything(case.seed)
            made = world.build(case, DEFAULT)
            loop(made.model, made.values["train_loader"], made.loss_fn, made.optimizer, case.device)
        torch.set_num_threads(threads)
    ((seconds, end),) = seen
    return seconds, end


def _seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
