"""Learning-rate schedules, clipping and gradient scaling."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from mnist_loop.verification.cases.world import GAMMA, SCALE
from mnist_loop.verification.laws.gradients import UNSEEN
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.arithmetic import add, clipped, distance, norm, scale
from mnist_loop.verification.recording.events import OptimizerStep, Tensors
from mnist_loop.verification.recording.trace import Trace
from mnist_loop.verification.recording.window import CLIPPING, Window

NO_SCHEDULER = "the loop is handed no scheduler"
NO_CLIP = "declare clip=C for a loop that clips its gradients"
LONGER = 1.05  # a gradient this much longer than the norm that it is clipped to is changed by it beyond any rounding
EXPLAINS = ("gradient-differs", "update-differs", "clip-missing")


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


@law("scheduler-before-optimizer", explains=("scheduler-per-batch",))
def the_first_step_has_the_initial_rate(trace: Trace) -> Iterator[Evidence]:
    """The schedule moves on after the optimizer's steps, so that the first step has the initial learning rate."""
    step, rate, window = rates(trace)[0]
    if is_rate(rate, trace.case.lr * GAMMA):
        yield step.time, f"{window.name}: the learning rate is {rate:g}, but should be {trace.case.lr:g}"


@law("scheduler-per-batch")
def a_schedule_by_epochs_moves_once_an_epoch(trace: Trace) -> Iterator[Evidence]:
    """Within an epoch the learning rate is the same, unless the schedule is declared to be one by batches."""
    must(trace.declared.schedule == "per-epoch", "the schedule is declared to move with each batch")
    found = rates(trace)
    for (_, before, previous), (step, rate, window) in pairwise(found):
        if previous.epoch == window.epoch and rate < before and is_rate(rate, before * GAMMA):
            yield (
                step.time,
                f"{window.name}: the learning rate fell from {before:g} to {rate:g} within epoch {window.epoch}",
            )


@law("scheduler-per-micro-batch", explains=("scheduler-before-optimizer",))
def a_schedule_by_steps_moves_once_a_step(trace: Trace) -> Iterator[Evidence]:
    """With accumulation, a schedule by steps moves once an optimizer's step, not once a batch."""
    must(
        trace.declared.schedule == "per-batch", "declare schedule='per-batch' for a schedule that moves with each step"
    )
    must(trace.declared.accumulate > 1, "declare accumulate=N for a loop that accumulates")
    found = rates(trace)
    for (_, before, previous), (step, rate, window) in pairwise(found):
        moves = len(previous.forwards)
        if moves > 1 and any(is_rate(rate, before * GAMMA**n) for n in range(2, moves + 2)):
            yield step.time, f"{window.name}: the learning rate fell from {before:g} to {rate:g} in one step"


def clipping(trace: Trace) -> list[tuple[Window, float]]:
    """Return the windows whose gradient is longer than the declared norm, with that norm."""
    clip = trace.declared.clip
    must(clip is not None, NO_CLIP)
    assert clip is not None
    must(trace.training, UNSEEN)
    must(trace.knows_loss, "what the loop minimises is not known")
    wrong = [window for window in trace.windows if window.steps and not window.is_right]
    return [(window, clip) for window in wrong if norm(window.mean) > clip * LONGER]


def applies(trace: Trace, window: Window, gradient: Tensors) -> bool:
    """Return whether the window applied this gradient, up to how clipping is rounded."""
    return distance(window.applied, gradient) <= max(CLIPPING, trace.tolerance)


@law("clip-after-step", explains=EXPLAINS)
def gradients_are_clipped_before_the_step(trace: Trace) -> Iterator[Evidence]:
    """A step applies the clipped gradient; to clip it afterwards changes nothing."""
    for window, clip in clipping(trace):
        if not applies(trace, window, window.mean):
            continue
        for left in _left_after(trace, window):
            if distance(left, clipped(window.applied, clip)) <= CLIPPING:
                size = norm(window.applied)
                yield window.time, f"{window.name}: norm {size:.4g} was applied, and clipped to {clip:g} afterwards"


def _left_after(trace: Trace, window: Window) -> Iterator[Tensors]:
    """Yield the gradients that were there after the window's step, wherever they were looked at."""
    end = window.steps[-1].time
    following = [other.time for other in trace.windows if other.time > window.time]
    until = following[0] if following else len(trace.recording.events)
    for forward in trace.forwards:
        if end < forward.time <= until and forward.gradients:
            yield trace.only_trained(forward.gradients)
    for call in trace.calls:
        if call.time < end < call.end and call.end <= until + 1 and call.gradients_after:
            yield trace.only_trained(call.gradients_after)


@law("clip-missing", explains=("gradient-differs",))
def declared_clipping_takes_place(trace: Trace) -> Iterator[Evidence]:
    """A gradient longer than the declared norm is scaled down to it."""
    for window, clip in clipping(trace):
        if applies(trace, window, window.mean):
            yield (
                window.time,
                f"{window.name}: a gradient of norm {norm(window.applied):.4g} was applied, longer than {clip:g}",
            )


@law("clip-per-micro-batch", explains=(*EXPLAINS, "accumulation-mean-of-means", "accumulation-tail"))
def the_whole_gradient_is_clipped_once(trace: Trace) -> Iterator[Evidence]:
    """With accumulation, the sum is clipped once before the step, not its parts one by one."""
    must(trace.declared.accumulate > 1, "declare accumulate=N for a loop that accumulates")
    for window, clip in clipping(trace):
        if len(window.forwards) < 2 or applies(trace, window, window.right):
            continue
        count = len(window.forwards)
        for parts in ([scale(p, 1 / count) for p in window.parts], window.parts):
            alone = add(*(clipped(part, clip) for part in parts))
            total = clipped(parts[0], clip)
            for part in parts[1:]:
                total = clipped(add(total, part), clip)
            if any(applies(trace, window, candidate) for candidate in (alone, scale(alone, 1 / count), total)):
                yield window.time, f"{window.name}: the gradients of {count} batches were clipped one by one"
                break


@law("clip-before-unscale", explains=(*EXPLAINS, "scaler-bypassed"))
def scaled_gradients_are_not_clipped(trace: Trace) -> Iterator[Evidence]:
    """With a GradScaler, gradients are unscaled before they are clipped."""
    must("scaler" in trace.roles, "the loop is handed no GradScaler")
    for window, clip in clipping(trace):
        effective = clipped(scale(window.mean, SCALE), clip)
        if applies(trace, window, scale(effective, 1 / SCALE)):
            yield window.time, f"{window.name}: the gradient was clipped to {clip:g} / {SCALE:g}, while it was scaled"


@law("scaler-bypassed", explains=(*EXPLAINS, "loss-differs", "loss-sum"))
def a_step_applies_unscaled_gradients(trace: Trace) -> Iterator[Evidence]:
    """With a GradScaler, the step applies the gradient of the loss, not of the scaled loss."""
    must("scaler" in trace.roles, "the loop is handed no GradScaler")
    must(trace.training, UNSEEN)
    must(trace.knows_loss, "what the loop minimises is not known")
    for window in trace.windows:
        if window.steps and not window.is_right:
            longest = trace.declared.clip
            wrong = [scale(window.mean, SCALE)]
            wrong += [] if longest is None else [clipped(wrong[0], longest)]
            if trace.close(window.applied, wrong[0]):
                yield (
                    window.time,
                    f"{window.name}: the gradient is {SCALE:g} times what it should be, the scaler's factor",
                )
