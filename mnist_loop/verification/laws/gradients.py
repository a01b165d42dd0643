"""Gradients and steps: which gradient a step applies, to which parameters, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch

from mnist_loop.bugs import Severity
from mnist_loop.verification.cases.world import SCALE
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.arithmetic import add, distance, norm, scale
from mnist_loop.verification.recording.divergence import is_judged, largest
from mnist_loop.verification.recording.events import Arrival, Forward, OptimizerStep, Tensors
from mnist_loop.verification.recording.oracle import Replicas
from mnist_loop.verification.recording.trace import Trace
from mnist_loop.verification.recording.window import Window

# Compiled and captured, Adam counts its steps in float32: in the first ones 1 - 0.999**t is off by 6e-8 / 1e-3 = 6e-5.
UPDATES = 1e-4
UNSEEN = "no training forward was seen"


def stepping(trace: Trace) -> list[Window]:
    """Return the windows that ended in a step whose gradient was there when it began."""
    must(trace.training, UNSEEN)
    must(all(forward.samples for forward in trace.training), "which samples were trained on cannot be told")
    found = [window for window in trace.windows if window.steps]
    plain = [window for window in found if not any(step.closure for step in window.steps)]
    must(plain or not found, "each step calls its closure several times")
    return plain


def describe(found: Tensors, expected: Tensors) -> str:
    """Say how a gradient differs: by a factor, or in which parameter most."""
    size, wanted = norm(found), norm(expected)
    if size == 0:
        return "is zero"
    factor = float(sum((found[n] * expected[n]).sum() for n in expected)) / wanted**2 if wanted else 0.0
    if wanted and distance(found, {n: v * factor for n, v in expected.items()}) < 1e-6:
        return f"is {factor:.4g} times what it should be"
    worst = max(expected, key=lambda name: float((found[name] - expected[name]).norm()))
    apart = float((found[worst] - expected[worst]).norm()) / (float(expected[worst].norm()) or 1.0)
    return f"differs, most in {worst}: by {apart:.2g} of its norm (all: {size:.4g}, should be {wanted:.4g})"


@law("zero-grad-missing")
def each_step_applies_its_own_gradient_alone(trace: Trace) -> Iterator[Evidence]:
    yield from _added_up_in_closures(trace)
    stale = list(_stale(trace))
    clean = _clean_at_an_edge(trace, stale)
    if stale and not (clean and len(trace.epochs) > 1):
        yield stale[0].time, _sum_of_two(stale[0])


@law("zero-grad-per-epoch")
def gradients_are_cleared_more_often_than_once_an_epoch(trace: Trace) -> Iterator[Evidence]:
    must(len(trace.epochs) > 1, "fewer than two epochs were trained")
    stale = list(_stale(trace))
    clean = _clean_at_an_edge(trace, stale)
    if stale and clean:
        yield stale[0].time, f"{_sum_of_two(stale[0])}; the first step of epoch {clean[0].epoch} is right"


def _added_up_in_closures(trace: Trace) -> Iterator[Evidence]:
    """Yield the steps whose closure, which is called several times, adds its gradients up."""
    before = 0
    for step in trace.steps:
        calls = [forward for forward in trace.training if before <= forward.time < step.time]
        before = step.time
        if not step.closure or len(calls) < 3 or trace.declared.own_objective:
            continue
        left = [trace.only_trained(forward.gradients) for forward in calls]
        own = [Window(trace, 0, [forward], [], {}, forward.epoch).implied for forward in calls]
        pairs = zip(left[1:], own[1:], left[2:], strict=False)
        if all(norm(kept) and trace.close(after, add(kept, new)) for kept, new, after in pairs):
            told = f"the closure of a step is called {len(calls)} times, and clears no gradient"
            yield calls[2].time, f"{told}: they are added up, and the step applies the sums"


def _clean_at_an_edge(trace: Trace, stale: list[Window]) -> list[Window]:
    """Return the windows that are the first of a later epoch and are not stale."""
    return [later for before, later in pairwise(trace.windows) if later.epoch != before.epoch and later not in stale]


def _stale(trace: Trace) -> Iterator[Window]:
    """Yield the windows that applied the gradient of the step before on top of their own."""
    windows = stepping(trace)
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    for previous, window in pairwise(windows):
        right = trace.knows_loss and window.is_right
        if right or trace.close(window.applied, window.implied) or not norm(previous.applied):
            continue
        # A gradient that is not cleared stays as the last step left it, clipped if that step was.
        both = add(window.implied, previous.applied)
        candidates = [both, scale(both, 1 / SCALE)] if "scaler" in trace.roles else [both]
        if any(trace.close(window.applied, one) or _clipped_to_declared(trace, window, one) for one in candidates):
            yield window


def _clipped_to_declared(trace: Trace, window: Window, gradient: Tensors) -> bool:
    clip = trace.declared.clip
    if clip is None or not norm(gradient) > clip:
        return False
    factor = norm(window.applied) / norm(gradient)
    return trace.close(window.applied, {name: value * factor for name, value in gradient.items()}) and factor < 1


def _sum_of_two(window: Window) -> str:
    name = max(window.implied, key=lambda name: float(window.implied[name].norm()))
    return (
        f"{window.name}: {name}.grad = grad(batch {window.number}) + what step {window.number - 1} applied, "
        f"but should be grad(batch {window.number})"
    )


@law("zero-grad-after-backward")
def gradients_live_until_the_step(trace: Trace) -> Iterator[Evidence]:
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    for window in stepping(trace):
        arrived = trace.arrivals(window) & trace.trained
        left = {name: g for step in window.steps[:1] for name, g in step.gradients.items() if name in arrived}
        if arrived and (not left or not norm(left)) and norm(window.implied):
            yield (
                window.time,
                f"{window.name}: gradients of norm {norm(window.implied):.3g} arrived, and none were left",
            )


@law("zero-grad-after-skip", numbers=False)
def a_gradient_that_is_left_out_is_cleared(trace: Trace) -> Iterator[Evidence]:
    must(trace.failed is None, "the loop raised")
    must(trace.case.corrupt, "no gradient is nan on purpose")
    must(trace.training and trace.steps, UNSEEN)
    for forwards in trace.epochs.values():
        bad = [number for number, forward in enumerate(forwards) if not _is_finite(forward)]
        if len(bad) != 1:
            continue  # the nan is in the parameters: the step was not left out
        rest = forwards[bad[0] + 1 :]
        stepped = any(forwards[bad[0]].time < step.time <= forwards[-1].time for step in trace.steps)
        kept = [forward for forward in rest if not all(bool(g.isfinite().all()) for g in forward.gradients.values())]
        if len(rest) > 2 * trace.declared.accumulate and kept == rest and not stepped:
            told = (
                f"a step was left out for a gradient that is nan, which stays in the gradients of {len(rest)} batches"
            )
            yield forwards[bad[0]].time, f"{told} after it: none of them is applied"


def _is_finite(forward: Forward) -> bool:
    return all(bool(gradient.isfinite().all()) for gradient in forward.output_gradients)


@law("step-missing", numbers=False)
def training_moves_the_parameters(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    arrived = {event.parameter for event in trace.recording.events if isinstance(event, Arrival)} & trace.trained
    moved = [n for n in trace.trained if not torch.equal(trace.recording.start[n], trace.recording.end[n])]
    if arrived and not trace.steps and not moved and trace.failed is None:
        yield trace.training[0].time, f"{len(trace.training)} backward passes, no step: every parameter is as it was"


@law("step-outside-loop")
def the_gradient_of_each_batch_is_applied(trace: Trace) -> Iterator[Evidence]:
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    must(trace.declared.accumulate == 1, "a loop that accumulates steps less often")
    windows = stepping(trace)
    must(len(trace.epochs) > 1, "fewer than two epochs were trained")
    must(len(windows) == len(trace.epochs) == len(trace.all_windows), "the loop does not step once an epoch")
    alone = [w for w in windows if len(w.forwards) > 1 and w.only(w.forwards[-1]).applied_what_arrived]
    if alone == windows and all(norm(window.only(window.forwards[0]).implied) for window in windows):
        count = len(windows[0].forwards)
        yield windows[0].time, f"one step in epoch 1, which applies the gradient of the last of {count} batches alone"


@law("step-double")
def one_step_a_gradient(trace: Trace) -> Iterator[Evidence]:
    for window in stepping(trace):
        held: dict[int, list[OptimizerStep]] = {}
        for step in window.steps:
            earlier = held.setdefault(step.optimizer, [])
            if any(step.lr.keys() & other.lr.keys() for other in earlier):
                yield step.time, f"{window.name}: the optimizer stepped {len(earlier) + 1} times on one gradient"
            earlier.append(step)


@law("last-gradient-dropped", numbers=False)
def a_step_follows_its_backward(trace: Trace) -> Iterator[Evidence]:
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    failed, forwards = trace.failed, trace.forwards
    if failed is not None and "modified by an inplace operation" in failed.error_message:
        between = [step for step in trace.steps if step.lr and forwards and step.time > forwards[-1].time]
        if between:
            yield between[-1].time, f"a step came between forward and backward, which raised {failed.error}"
    must(trace.training, UNSEEN)
    arrivals = [event.time for event in trace.recording.events if isinstance(event, Arrival)]
    steps = [step for step in trace.steps if step.lr]
    must(arrivals and len(steps) > 1, "fewer than two gradients were applied")
    stepped = [window for window in trace.all_windows if any(step.lr for step in window.steps)]
    early = [window for window in stepped if not trace.arrivals(window)]
    if len(stepped) > 1 and early == stepped and steps[-1].time < arrivals[-1]:
        yield (
            steps[0].time,
            f"each of {len(steps)} steps comes between forward and backward: the last gradient is never applied",
        )


@law("steps-skipped")
def each_gradient_is_applied(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    must(trace.declared.accumulate == 1, "a loop that accumulates steps less often")
    if trace.skipped:
        count = len(trace.windows)
        found = f"{len(trace.skipped)} of {count} steps were left out"
        yield trace.skipped[0].time, f"{found}: their gradients are larger than any that was applied"


@law("optimizer-misses-parameters")
def the_optimizer_holds_every_trained_parameter(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    must(trace.steps, "no optimizer stepped")
    must(trace.case.samples >= 2 * trace.case.batch_size, "too few steps for all optimizers to have had their turn")
    held = {name for step in trace.steps for name in step.lr}
    for window in trace.windows:
        missed = sorted((trace.arrivals(window) & trace.trained) - held)
        missed = [name for name in missed if torch.equal(trace.recording.start[name], trace.recording.end[name])]
        if missed:
            strangers = sum(step.strangers for step in window.steps)
            instead = f"; it holds {strangers} tensors that are not the model's" if strangers else ""
            yield window.time, f"{window.name}: {', '.join(missed)} got a gradient and is in no optimizer{instead}"


@law("frozen-by-accident")
def what_is_handed_to_be_trained_is_trained(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    for forward in trace.training:
        # A parameter that is trained later was frozen on purpose.
        frozen = sorted(trace.trained - forward.trainable - trace.training[-1].trainable)
        if frozen:
            yield forward.time, f"{', '.join(frozen)} has requires_grad=False in a training forward"


@law("frozen-moves")
def frozen_parameters_stay(trace: Trace) -> Iterator[Evidence]:
    fixed = [name for name in trace.recording.parameters if name not in trace.trained]
    must(fixed, "no parameter is frozen")
    # A loop may initialise all weights anew before it trains.
    start, end = trace.training[0].state if trace.training else trace.recording.start, trace.recording.end
    for name in fixed:
        if not torch.equal(start[name], end[name]):
            time = next((w.time for w in trace.windows if not torch.equal(w.after[name], start[name])), 0)
            yield time, f"{name} is frozen and moved by {float((end[name] - start[name]).norm()):.3g}"


@law("graph-detached")
def the_loss_reaches_the_parameters(trace: Trace) -> Iterator[Evidence]:
    failed = trace.failed
    if failed is not None and "does not require grad" in failed.error_message:
        yield failed.time, f"backward() raised: {failed.error_message}"
        return
    must(trace.training, UNSEEN)
    must(not trace.recording.compiled, "the model is compiled")
    arrived = any(forward.output_gradients for forward in trace.forwards)
    ran = trace.steps or any(forward.differentiable for forward in trace.training)
    if not arrived and ran and failed is None and trace.trained:
        yield trace.training[0].time, f"{len(trace.training)} forwards in training, and no parameter got a gradient"


@law("kernel-no-op")
def a_step_moves_each_parameter_that_it_should(trace: Trace) -> Iterator[Evidence]:
    must(not trace.declared.own_optimizer, "the loop steps in its own manner")
    replayed = list(_replayed(trace))
    must(len(replayed) > 1, "fewer than two steps were taken")
    due: dict[str, list[float]] = {}
    moved: set[str] = set()
    for step, expected in replayed:
        left = _left_by(trace, step)
        if left is None:
            continue
        for name in step.lr:
            size = norm({name: step.before[name]})
            due.setdefault(name, []).append(norm({name: expected[name] - step.before[name].double().cpu()}))
            if not torch.equal(step.before[name], left[name]) or due[name][-1] <= UPDATES * size:
                moved.add(name)
    for name in due:
        if name not in moved:
            yield replayed[0][0].time, f"{name} should move by {due[name][0]:.3g} in step 0, and never moves"


def _left_by(trace: Trace, step: OptimizerStep) -> Tensors | None:
    """Return the parameters at the next training forward; None if none comes before the next step.

    An evaluation between the two may put other weights in, such as averaged ones, and take them out again.
    """
    later = [event.time for event in trace.steps if event.time > step.time]
    until = later[0] if later else len(trace.recording.events)
    return next((forward.state for forward in trace.training if step.time < forward.time < until), None)


def _replayed(trace: Trace) -> Iterator[tuple[OptimizerStep, Tensors]]:
    """Yield the steps of optimizers of the handed kind, with the parameters that each should end in."""
    must("optimizer" in trace.roles, "the loop is handed no optimizer")
    must(trace.steps, "no optimizer stepped")
    replicas = Replicas(trace.case.optimizer)
    for step in trace.steps:
        if step.closure or not step.after:
            continue
        yield step, replicas.step(step)


@law("optimizer-recreated")
def the_optimizer_keeps_its_state(trace: Trace) -> Iterator[Evidence]:
    must(not trace.declared.own_optimizer, "the loop steps in its own manner")
    yield from _made_anew(trace)
    must("optimizer" in trace.roles, "the loop is handed no optimizer")
    lasting = Replicas(trace.case.optimizer)
    for number, step in enumerate(trace.steps):
        if step.closure or not step.after:
            continue
        kept = _moves(step, lasting.step(step))
        fresh = _moves(step, Replicas(trace.case.optimizer).step(step))
        moved = only(step, trace.trained)
        if number and trace.close(moved, fresh) and not trace.close(moved, kept):
            yield step.time, f"step {number}: the update is that of a new optimizer: its state was lost"


def _made_anew(trace: Trace) -> Iterator[Evidence]:
    """Yield that a whole fit makes an optimizer with a state for each epoch; with other rates it may restart so."""
    epochs: dict[int, list[OptimizerStep]] = {}
    for window in trace.windows if trace.recording.whole_fit else ():
        epochs.setdefault(window.epoch, []).extend(step for step in window.steps if step.lr)
    firsts = [steps[0] for steps in epochs.values() if steps]
    if len(firsts) < 3 or len(firsts) < len(epochs) or not all(map(_has_state, firsts)):
        return  # two may be two phases of a training
    alone = all(len({step.optimizer for step in steps}) == 1 for steps in epochs.values())
    same = len({(step.kind, tuple(step.lr)) for step in firsts}) == 1
    if alone and same and len({step.optimizer for step in firsts}) == len(firsts):
        told = f"each of {len(firsts)} epochs has a {firsts[0].kind} of its own: the state of the one before is lost"
        level: Severity = "bug" if len({tuple(step.lr.values()) for step in firsts}) == 1 else "info"
        yield firsts[1].time, told, level


def _has_state(step: OptimizerStep) -> bool:
    return step.kind != "SGD" or any(options.get("momentum") for options in step.options.values())


def only(step: OptimizerStep, names: frozenset[str]) -> Tensors:
    """Return by how much a step moved the parameters that it holds."""
    return {n: step.after[n].double().cpu() - step.before[n].double().cpu() for n in step.lr if n in names}


def _moves(step: OptimizerStep, expected: Tensors) -> Tensors:
    return {name: expected[name] - step.before[name].double().cpu() for name in step.lr}


@law("update-differs")
def parameters_move_as_the_optimizer_says(trace: Trace) -> Iterator[Evidence]:
    must(not trace.declared.own_optimizer, "the loop steps in its own manner")
    for step, expected in _replayed(trace):
        moved, due = only(step, trace.trained), _moves(step, expected)
        due = {name: due[name] for name in moved}
        if distance(moved, due, trace.floor) > max(trace.tolerance, UPDATES):
            yield step.time, f"the update {describe(moved, due)}"
    for window in () if trace.declared.own_objective else stepping(trace):
        step, state = window.steps[0], window.forwards[-1].state
        early = [name for name in trace.recording.parameters if not torch.equal(step.before[name], state[name])]
        if early:
            yield step.time, f"{window.name}: {', '.join(early)} changed between the forward and the step"
        after, found = window.steps[-1].after, _left_by(trace, window.steps[-1])
        moved_by_hand = [
            n for n in trace.recording.parameters if found and after and not torch.equal(after[n], found[n])
        ]
        if moved_by_hand and found and not trace.restored(found, window.time):
            yield window.steps[-1].time, f"{window.name}: {', '.join(moved_by_hand)} changed after the step"


@law("gradient-differs", numbers=False)  # it says when it is not run
def each_step_applies_the_gradient_of_the_mean_loss(trace: Trace) -> Iterator[Evidence]:
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    for window in stepping(trace):
        if not trace.knows_loss:
            if not window.applied_what_arrived:
                yield window.time, f"{window.name}: the gradient {describe(window.applied, window.implied)}"
        elif not window.is_right and not accumulates(window):
            yield window.time, f"{window.name}: the gradient {describe(window.applied, window.right)}"
    diverges = trace.diverging
    if diverges is not None and trace.knows_loss and _ought_not_to_diverge(trace, diverges):
        should = f"its norm should be {norm(diverges.right):.4g}"
        yield diverges.time, f"{diverges.name}: the gradient is not finite, or its square is not; {should}"
    must(trace.divergence is None, str(trace.divergence))


def _ought_not_to_diverge(trace: Trace, window: Window) -> bool:
    """Return whether a window applied a gradient that cannot be judged, where the right one can."""
    if not window.steps or any(step.closure for step in window.steps) or accumulates(window):
        return False
    most = largest(trace.case)
    applied, right = window.applied.values(), window.right.values()
    return all(is_judged(v, most) for v in right) and not all(is_judged(v, most) for v in applied)


def accumulates(window: Window) -> bool:
    """Return whether the window applied the sum or mean of several batches, although no accumulation is declared."""
    several = len(window.forwards) > 1 and window.trace.declared.accumulate == 1
    return several and window.applied_what_arrived
