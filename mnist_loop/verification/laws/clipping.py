"""Gradient clipping: when it is done, and to which gradient."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.verification.cases.world import SCALE
from mnist_loop.verification.laws.gradients import UNSEEN
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.arithmetic import add, clipped, distance, norm, scale
from mnist_loop.verification.recording.events import Cleared, Tensors
from mnist_loop.verification.recording.trace import Trace
from mnist_loop.verification.recording.window import CLIPPING, Window

NO_CLIP = "declare clip=C for a loop that clips its gradients"
LONGER = 1.05  # a gradient this much longer than the norm that it is clipped to is changed by it beyond any rounding


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
    """Return whether the window applied this gradient, up to the rounding of clipping."""
    return distance(window.applied, gradient) <= max(CLIPPING, trace.tolerance)


@law("clip-after-step")
def gradients_are_clipped_before_the_step(trace: Trace) -> Iterator[Evidence]:
    for window, clip in clipping(trace):
        if not applies(trace, window, window.mean):
            continue
        for left in _left_after(trace, window):
            if distance(left, clipped(window.applied, clip)) <= CLIPPING:
                size = norm(window.applied)
                yield window.time, f"{window.name}: norm {size:.4g} was applied, and clipped to {clip:g} afterwards"


def _left_after(trace: Trace, window: Window) -> Iterator[Tensors]:
    """Yield the gradients after the window's step, as far as they were recorded."""
    end = window.steps[-1].time
    following = [other.time for other in trace.windows if other.time > window.time]
    until = following[0] if following else len(trace.recording.events)
    for event in trace.recording.events[end:until]:
        if isinstance(event, Cleared) and event.gradients:
            yield trace.only_trained(event.gradients)
    for forward in trace.forwards:
        if end < forward.time <= until and forward.gradients:
            yield trace.only_trained(forward.gradients)
    for call in trace.calls:
        if call.time < end < call.end and call.end <= until + 1 and call.gradients_after:
            yield trace.only_trained(call.gradients_after)


@law("clip-missing")
def declared_clipping_takes_place(trace: Trace) -> Iterator[Evidence]:
    for window, clip in clipping(trace):
        if applies(trace, window, window.mean):
            yield (
                window.time,
                f"{window.name}: a gradient of norm {norm(window.applied):.4g} was applied, longer than {clip:g}",
            )


@law("clip-per-micro-batch")
def the_whole_gradient_is_clipped_once(trace: Trace) -> Iterator[Evidence]:
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


@law("clip-before-unscale")
def scaled_gradients_are_not_clipped(trace: Trace) -> Iterator[Evidence]:
    must("scaler" in trace.roles, "the loop is handed no GradScaler")
    for window, clip in clipping(trace):
        effective = clipped(scale(window.mean, SCALE), clip)
        if applies(trace, window, scale(effective, 1 / SCALE)):
            yield window.time, f"{window.name}: the gradient was clipped to {clip:g} / {SCALE:g}, while it was scaled"
