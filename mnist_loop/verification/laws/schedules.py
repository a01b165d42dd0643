"""Learning-rate schedules: when the rate changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from mnist_loop.verification.cases.world import GAMMA
from mnist_loop.verification.laws.gradients import UNSEEN
from mnist_loop.verification.laws.metrics import ERRORS, Series, batches, passes_between, report
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.events import OptimizerStep, PlateauStep
from mnist_loop.verification.recording.trace import Trace
from mnist_loop.verification.recording.window import Window

PAST_ITS_END = re.compile(r"Tried to step \d+ times. The specified number of total steps is (\d+)")
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
    epochs = len(trace.epochs)
    for schedule in trace.recording.schedules if epochs > 1 and trace.recording.whole_fit else ():
        if not schedule.steps and trace.failed is None:
            # A longer training may step it, such as after a warm-up.
            yield 0, f"{schedule.name} was built, and not stepped once in {epochs} epochs", "info"
    found = rates(trace)
    must(len({window.epoch for _, _, window in found}) > 1, "fewer than two epochs were trained")
    must(trace.failed is None, "the loop raised")
    must("optimizer" in trace.roles, "the loop steps an optimizer of its own")
    if all(is_rate(rate, trace.case.lr) for _, rate, _ in found):
        last = found[-1][2]
        told = f"{last.name}, in epoch {last.epoch}: the learning rate is still {trace.case.lr:g}"
        # A caller may step the schedule between two epochs that it asks for.
        yield found[-1][0].time, told, *(() if trace.recording.whole_fit else ("info",))


@law("scheduler-horizon", numbers=False)
def a_schedule_ends_with_the_training(trace: Trace) -> Iterator[Evidence]:
    epochs, steps = trace.case.epochs, trace.case.epochs * trace.case.batches
    # A OneCycleLR raises at the first step after its end.
    failed = trace.failed
    ended = None if failed is None else PAST_ITS_END.search(failed.error or "")
    if failed is not None and ended is not None and trace.recording.whole_fit and int(ended[1]) in (epochs, steps):
        yield failed.time, f"a OneCycleLR is to end after {ended[1]} of its steps, and is stepped once more", "bug"
    ends = [schedule for schedule in trace.recording.schedules if schedule.horizon and schedule.steps]
    must(ends, "the loop builds no schedule with an end")
    must(trace.failed is None and trace.recording.whole_fit, "the training was not seen to its end")
    for one in ends:
        if (one.horizon, one.steps) in ((steps, epochs), (epochs, steps)) and steps != epochs:
            yield 0, f"{one.name} is to end after {one.horizon} of its steps, and took {one.steps}"


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


@law("scheduler-per-epoch")
def a_schedule_by_batches_moves_within_an_epoch(trace: Trace) -> Iterator[Evidence]:
    must(
        trace.declared.schedule == "per-batch", "declare schedule='per-batch' for a schedule that moves with each step"
    )
    found = rates(trace)
    by_epoch: dict[int, list[float]] = {}
    for _, rate, window in found:
        by_epoch.setdefault(window.epoch, []).append(rate)
    must(len(by_epoch) > 1 and all(len(one) > 2 for one in by_epoch.values()), "too few steps were taken")
    firsts = [one[0] for one in by_epoch.values()]
    still = all(is_rate(rate, one[0]) for one in by_epoch.values() for rate in one)
    if still and all(is_rate(after, before * GAMMA) for before, after in pairwise(firsts)):
        step, rate, window = found[-1]
        yield step.time, f"{window.name}: the learning rate is {rate:g} in all of epoch {window.epoch}"


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


@law("plateau-mode-wrong")
def a_plateau_is_one_of_what_it_is_given(trace: Trace) -> Iterator[Evidence]:
    steps = [event for event in trace.recording.events if isinstance(event, PlateauStep)]
    must(steps, "the loop steps no ReduceLROnPlateau")
    must(len({step.mode for step in steps}) == 1, "the schedules have different modes")
    must(trace.case.loss != "mse" and trace.knows_loss, "its loss is not known")
    reports, begin = [], 0
    for step in steps:
        inside = [(name, batches(trace, found)) for name, found in passes_between(trace, begin, step.time)]
        reports.append({(n, f): v for n, known in inside if known for f, v in report(trace, n, [known]).items()})
        begin = step.time
    given = Series("what the schedule is given", steps[0].time, tuple(step.value for step in steps), tuple(reports))
    found = {formula.of for _, formula in given.formulas("right", "mean_of_means", "wrong_count", "last_batch")}
    errors = any(formula.told == ERRORS for _, formula in given.formulas("right"))
    different = len(set(given.numbers))
    told = f"{', '.join(f'{number:.4g}' for number in given.numbers)} are given to a ReduceLROnPlateau in mode"
    if steps[0].mode == "min" and found == {"accuracy"} and not errors and different > 2:
        yield steps[0].time, f'the accuracies {told} "min": it lowers the learning rate when they rise'
    if steps[0].mode == "max" and found == {"loss"} and different > 1:
        yield steps[0].time, f'the losses {told} "max": it lowers the learning rate when they fall'
