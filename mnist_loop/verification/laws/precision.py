"""Mixed precision: sums in half precision, and gradients under a GradScaler."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mnist_loop.verification.cases.world import SCALE
from mnist_loop.verification.laws.gradients import UNSEEN
from mnist_loop.verification.laws.losses import right
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.arithmetic import clipped, scale
from mnist_loop.verification.recording.divergence import HALVES
from mnist_loop.verification.recording.events import Forward, LossCall, ScalerBuilt
from mnist_loop.verification.recording.oracle import mean_loss
from mnist_loop.verification.recording.trace import Trace

# How torch says that a GradScaler was not updated after a step, in torch/amp/grad_scaler.py.
NOT_UPDATED = ("since the last update()", "unscale_() is being called after step()")
HALF = 0.01  # ten roundings to float16, of 2**-11 each


@law("half-precision-overflow", numbers=False)
def numbers_stay_finite(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    must(trace.declared.precision is None, "the loop declares a lower precision")
    yield from _rounded(trace)
    watched = trace.others.get("watched", trace)
    if not watched.recording.half and not _sees_half(trace):
        return
    for forward in trace.training:
        for gradient in forward.output_gradients:
            due = float(right(trace, forward).norm()) if trace.knows_loss and forward.samples else 0.0
            if not gradient.any() and due > HALF:
                yield forward.time, "the gradient at the outputs is zero, as after an overflow of the loss"
            if not bool(torch.isfinite(gradient).all()) and _finite_in_float64(trace, forward):
                yield forward.time, "a gradient is not finite, and in float64 it is"
    for event in trace.recording.events:
        if not isinstance(event, LossCall) or event.outputs.dtype != torch.float16:
            continue
        if not bool(torch.isfinite(event.value).all()) and bool(torch.isfinite(event.outputs).all()):
            yield event.time, f"the loss is {float(event.value.float().mean())} in {event.value.dtype}"
    for call in trace.calls:
        before = all(bool(torch.isfinite(value).all()) for value in call.before.values() if value.is_floating_point())
        for name, number in call.result.numbers.items():
            if number != number or abs(number) == float("inf"):
                seen = [forward for forward in trace.forwards if call.time < forward.time < call.end]
                # The start value of a search for the best is infinite on purpose.
                sentinel = any(word in name.lower() for word in ("best", "min", "max"))
                if (
                    trace.case.scale > 1
                    and not sentinel
                    and before
                    and seen
                    and all(_finite_in_float64(trace, forward) for forward in seen)
                ):
                    yield call.time, f"{name} is {number}, and finite in float64"
    for forward in trace.training:
        if forward.outputs is None or forward.outputs.dtype != torch.float16:
            continue
        if not bool(torch.isfinite(forward.outputs).all()) and _finite_in_float64(trace, forward):
            yield forward.time, "outputs in float16 are not finite, and in float64 they are"


def _rounded(trace: Trace) -> Iterator[Evidence]:
    for forward in trace.training:
        for gradient in forward.output_gradients:
            if _is_half(gradient) and len(forward.samples) and trace.knows_loss:
                expected = right(trace, forward)
                if not _is_half(expected) and expected.shape == gradient.shape:
                    apart = float((gradient.double().cpu() - expected).norm() / expected.norm())
                    if trace.tolerance < apart < HALF:
                        yield (
                            forward.time,
                            f"the gradient at the outputs is rounded to float16, off by {apart:.2g} of its norm",
                        )


def _sees_half(trace: Trace) -> bool:
    """Return whether the model's outputs, or the loss that the loop was handed, were in half precision."""
    losses = [event for event in trace.recording.events if isinstance(event, LossCall)]
    seen = [value for loss in losses for value in (loss.outputs, loss.value)]
    seen += [forward.outputs for forward in trace.forwards if forward.outputs is not None]
    return any(value.dtype in HALVES for value in seen)


def _is_half(gradient: Tensor) -> bool:
    return gradient.is_floating_point() and torch.equal(gradient, gradient.half().to(gradient.dtype))


def _finite_in_float64(trace: Trace, forward: Forward) -> bool:
    """Return whether state, outputs and loss of a forward are finite when it is replayed in float64."""
    if not all(bool(torch.isfinite(value.double()).all()) for value in forward.state.values()):
        return False
    outputs = trace.oracle.outputs(forward, trace.oracle.right_eval_modules(forward)).detach()
    loss = mean_loss(trace.case.loss, outputs, trace.labels(forward)) if forward.samples else 0.0
    return bool(torch.isfinite(outputs).all()) and math.isfinite(loss)


@law("scaler-bypassed")
def a_step_applies_unscaled_gradients(trace: Trace) -> Iterator[Evidence]:
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


@law("scaler-update-missing", numbers=False)
def a_scaler_that_steps_is_updated(trace: Trace) -> Iterator[Evidence]:
    must("scaler" in trace.roles, "the loop is handed no GradScaler")
    failed = trace.failed
    if failed is not None and any(text in failed.error_message for text in NOT_UPDATED):
        yield failed.end, f"{failed.what} raised {failed.error}"


@law("scaler-recreated", numbers=False)
def a_scaler_lasts(trace: Trace) -> Iterator[Evidence]:
    must(trace.recording.whole_fit or "epoch" in trace.roles, "a call may be a training of its own")
    must(trace.training, UNSEEN)
    must(len(trace.epochs) > 1, "fewer than two epochs were trained")
    made = [event for event in trace.of(ScalerBuilt) if any(c.time < event.time < c.end for c in trace.calls)]
    epochs = [next((f.epoch for f in trace.training if f.time > event.time), None) for event in made]
    if {*trace.epochs} <= {*epochs}:
        yield made[1].time, f"{len(made)} GradScalers were made in {len(trace.epochs)} epochs, one in each at least"
