"""Gradient accumulation: several batches make one step."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.verification.laws.gradients import UNSEEN
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.arithmetic import add, norm, scale
from mnist_loop.verification.recording.trace import Trace
from mnist_loop.verification.recording.window import Window

UNDECLARED = "declare accumulate=N for a loop that accumulates"


def accumulated(trace: Trace) -> list[Window]:
    """Return the windows that ended in a step and did not apply the right gradient."""
    must(trace.declared.accumulate > 1, UNDECLARED)
    must(trace.training, UNSEEN)
    must(trace.knows_loss, "what the loop minimises is not known")
    return [window for window in trace.windows if window.steps and not window.is_right]


def equal(window: Window) -> bool:
    """Return whether all its batches have the same size."""
    return len({len(forward.samples) for forward in window.forwards}) == 1


@law("zero-grad-per-micro-batch")
def each_micro_batch_counts(trace: Trace) -> Iterator[Evidence]:
    for window in accumulated(trace):
        count = len(window.forwards)
        last = window.parts[-1]
        for factor in (1.0, 1 / count, 1 / trace.declared.accumulate):
            if count > 1 and window.is_applied(scale(last, factor)):
                yield window.time, f"{window.name}: the gradient is that of the last of {count} batches alone"


@law("zero-grad-drops-tail")
def the_open_window_of_an_epoch_is_not_lost(trace: Trace) -> Iterator[Evidence]:
    for window in accumulated(trace):
        epochs = [forward.epoch for forward in window.forwards]
        if len(set(epochs)) < 2:
            continue
        kept = [part for part, epoch in zip(window.parts, epochs, strict=True) if epoch == epochs[-1]]
        for factor in (1.0, 1 / len(kept), 1 / trace.declared.accumulate):
            if window.is_applied(scale(add(*kept), factor)):
                lost = len(epochs) - len(kept)
                yield (
                    window.time,
                    f"{window.name}: the last {lost} of the batches of epoch {epochs[0]} have no part in it",
                )
                break


@law("accumulation-not-divided")
def micro_batches_are_averaged(trace: Trace) -> Iterator[Evidence]:
    for window in accumulated(trace):
        # Clipped, the sum of the batches' gradients is their mean.
        mean = window.weighted([1] * len(window.forwards))
        if len(window.forwards) > 1 and window.is_applied(add(*window.parts)) and not window.is_applied(mean):
            factor = norm(window.applied) / norm(window.mean)
            yield window.time, f"{window.name}: the gradient is {factor:.4g} times that of one large batch"


@law("accumulation-mean-of-means")
def each_sample_of_a_window_counts_the_same(trace: Trace) -> Iterator[Evidence]:
    for window in accumulated(trace):
        count = len(window.forwards)
        if not equal(window) and window.is_applied(window.weighted([1] * count)):
            sizes = ", ".join(str(len(forward.samples)) for forward in window.forwards)
            yield window.time, f"{window.name}: batches of {sizes} samples were given the same weight"


@law("accumulation-tail")
def a_partial_window_is_divided_by_its_own_number(trace: Trace) -> Iterator[Evidence]:
    count = trace.declared.accumulate
    wrong_windows = accumulated(trace)
    last = trace.windows[-1]
    if not last.steps and not any(step.closure for step in trace.steps) and len(trace.windows) > 1:
        yield last.time, f"the last {len(last.forwards)} of the batches make no step"
    for window in wrong_windows:
        present = len(window.forwards)
        if present < count:
            wrong = (scale(add(*window.parts), 1 / count), scale(window.mean, present / count))
            if any(window.is_applied(candidate) for candidate in wrong):
                yield window.time, f"{window.name}: {present} of {count} batches, yet divided by {count}"
