"""Learning-rate schedules: when the rate changes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from mnist_loop.verification.cases.world import GAMMA
from mnist_loop.verification.laws.gradients import UNSEEN
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.events import OptimizerStep
from mnist_loop.verification.recording.trace import Trace
from mnist_loop.verification.recording.window import Window

NO_SCHEDULER = "the loop is handed no scheduler"


def rates(trace: Trace) -> list[tuple[OptimizerStep, float, Window]]:
    """Return the handed optimizer's steps with their learning rate, and the window of each."""
    must("scheduler" in trace.roles, NO_SCHEDULER)
    must(trace.training, UNSEEN)
    found = []
    for window in trace.windows:
        for step in window.steps[:1]:
            if step.lr and step.optimizer == 0:
                found.append((step, next(iter(step.lr.values())), window))
    must(found, "the handed optimizer took no step")
    return found


def is_rate(found: float, expected: float) -> bool:
    """Return whether a rate is the expected one; any two of a schedule differ by a factor of two."""
    return abs(found / expected - 1) < 1e-6 if expected else found == 0


@law("scheduler-before-optimizer")
def the_first_step_has_the_initial_rate(trace: Trace) -> Iterator[Evidence]:
    step, rate, window = rates(trace)[0]
    if is_rate(rate, trace.case.lr * GAMMA):
        yield step.time, f"{window.name}: the learning rate is {rate:g}, but should be {trace.case.lr:g}"


@law("scheduler-not-stepped")
def a_schedule_moves(trace: Trace) -> Iterator[Evidence]:
    found = rates(trace)
    must(len({window.epoch for _, _, window in found}) > 1, "fewer than two epochs were trained")
    must(trace.failed is None, "the loop raised")
    must("optimizer" in trace.roles, "the loop steps an optimizer of its own")
    if all(is_rate(rate, trace.case.lr) for _, rate, _ in found):
        last = found[-1][2]
        told = f"{last.name}, in epoch {last.epoch}: the learning rate is still {trace.case.lr:g}"
        # A caller may step the schedule between two epochs that it asks for.
        yield found[-1][0].time, told, *(() if trace.recording.whole_fit else ("info",))


@law("scheduler-per-batch")
def a_schedule_by_epochs_moves_once_an_epoch(trace: Trace) -> Iterator[Evidence]:
    must(trace.declared.schedule != "per-batch", "the schedule is declared to move with each batch")
    undeclared = trace.declared.schedule is None
    told = "; that is right for a schedule that was built for steps" if undeclared else ""
    found = rates(trace)
    for (_, before, previous), (step, rate, window) in pairwise(found):
        if previous.epoch == window.epoch and rate < before and is_rate(rate, before * GAMMA):
            yield (
                step.time,
                f"{window.name}: the learning rate fell from {before:g} to {rate:g} within epoch {window.epoch}{told}",
                *(("info",) if undeclared else ()),
            )


@law("scheduler-per-micro-batch")
def a_schedule_by_steps_moves_once_a_step(trace: Trace) -> Iterator[Evidence]:
    must(
        trace.declared.schedule == "per-batch", "declare schedule='per-batch' for a schedule that moves with each step"
    )
    must(trace.declared.accumulate > 1, "declare accumulate=N for a loop that accumulates")
    found = rates(trace)
    for (_, before, previous), (step, rate, window) in pairwise(found):
        moves = len(previous.forwards)
        if moves > 1 and any(is_rate(rate, before * GAMMA**n) for n in range(2, moves + 2)):
            yield step.time, f"{window.name}: the learning rate fell from {before:g} to {rate:g} in one step"
