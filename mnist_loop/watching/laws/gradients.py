"""Gradients and steps: which gradient a step applies, to which parameters, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from mnist_loop.watching.gradients import moved
from mnist_loop.watching.laws.registry import Evidence, law, must
from mnist_loop.watching.log import SeenBackward, SeenForward, SeenOptimizer, SeenStep, WatchLog

AGAIN = 3  # times that a doubtful pattern must come in a row
NO_STEP = "no step was watched closely"
NO_BACKWARD = "no backward pass was watched closely"


@law("zero-grad-missing")
def each_step_applies_new_gradients_alone(log: WatchLog) -> Iterator[Evidence]:
    must(log.of(SeenStep), NO_STEP)
    for optimizer, first in _reapplying(log):
        if not _cleared_at_passes(log, optimizer):
            yield _reapplied(log, optimizer, first)


@law("zero-grad-per-epoch")
def gradients_are_cleared_within_a_pass(log: WatchLog) -> Iterator[Evidence]:
    must(log.of(SeenStep), NO_STEP)
    must(_passes_with_steps(log) > 1, "one pass over the data cannot tell")
    for optimizer, first in _reapplying(log):
        if _cleared_at_passes(log, optimizer):
            yield _reapplied(log, optimizer, first)


def _reapplying(log: WatchLog) -> Iterator[tuple[SeenOptimizer, SeenStep]]:
    """Yield each optimizer that applied gradients again, and the first step that did."""
    for optimizer in log.optimizers:
        steps = [step for step in log.steps_of(optimizer.number) if step.reapplied]
        if any(step.confirmed for step in steps):
            yield optimizer, steps[0]


def _cleared_at_passes(log: WatchLog, optimizer: SeenOptimizer) -> bool:
    """Return whether the first step of each later pass was right."""
    starts = [step for step in log.steps_of(optimizer.number) if step.first_of_pass and step.step > 0]
    return bool(starts) and not any(step.reapplied for step in starts)


def _reapplied(log: WatchLog, optimizer: SeenOptimizer, step: SeenStep) -> Evidence:
    which = _of(step.reapplied, step.names)
    last = max((one.step for one in log.steps_of(optimizer.number) if one.step < step.step), default=step.step - 1)
    # Of several, the one before the step: an earlier one may be that of another loss, as in a GAN.
    backwards = [e for e in log.of(SeenBackward) if e.onto_applied and e.site and e.time < step.time]
    own = [e for e in backwards if set(e.names) & set(step.names)] or backwards
    site = own[-1].site if own else log.first_backward
    return Evidence(step.time, f"step {step.step}: {which} added to those that step {last} had applied", site)


def _passes_with_steps(log: WatchLog) -> int:
    return sum(bool(one.optimizers) for one in log.passes)


def _of(count: int, names: Sequence[str]) -> str:
    shown = ", ".join(names) + (", ..." if count > len(names) else "")
    return f"the gradient{'s' if count > 1 else ''} of {count} parameter{'s' if count > 1 else ''} ({shown}) " + (
        "were" if count > 1 else "was"
    )


@law("zero-grad-after-backward")
def what_arrived_is_there_when_the_step_begins(log: WatchLog) -> Iterator[Evidence]:
    must(log.of(SeenStep), NO_STEP)
    for optimizer in log.optimizers:
        steps = log.steps_of(optimizer.number)
        empty = [step.cleared > 0 and not step.kept for step in steps]
        if _runs(empty) and sum(empty) * 2 > len(empty):
            step = steps[empty.index(True)]
            yield Evidence(
                step.time,
                f"step {step.step}: a backward pass had reached {step.cleared} parameters of {optimizer.name}, and "
                f"none of them has a gradient when the step begins",
                optimizer.cleared_at or step.site,
            )


def _runs(flags: list[bool]) -> bool:
    """Return whether a flag is up several times in a row."""
    return any(all(flags[n : n + AGAIN]) for n in range(len(flags) - AGAIN + 1))


@law("step-missing")
def what_arrives_is_applied(log: WatchLog) -> Iterator[Evidence]:
    must(log.of(SeenBackward), NO_BACKWARD)
    must(log.optimizers, "there is no optimizer")
    must(not log.scaler_steps, "a GradScaler decides which steps are taken")
    if log.backwards >= AGAIN and not log.steps:
        held = [one for one in log.parameters if one.holders and one.ever_arrived and one.first is not None]
        inputs = any(not one.reached and not one.unheld for one in log.of(SeenBackward))
        if held and not inputs and not any(moved(one) for one in held):
            yield Evidence(
                log.of(SeenBackward)[0].time,
                f"{log.backwards} backward passes have reached {len(held)} parameters of {log.optimizers[0].name}, "
                "which was never stepped, and they have the values that they began with",
                log.first_backward,
            )


@law("step-double")
def a_gradient_is_applied_once(log: WatchLog) -> Iterator[Evidence]:
    must(log.of(SeenStep), NO_STEP)
    for optimizer in log.optimizers:
        steps = log.steps_of(optimizer.number)
        again = [step for step in steps if step.gradients and step.repeated == step.gradients]
        # Once for each gradient, as a loop does it; a benchmark of step() alone repeats it without end.
        pairs = [
            step
            for before, step in pairwise(steps)
            if step in again and before.arrived and before.gradients == step.gradients
        ]
        if len(pairs) >= 2 and len(pairs) == len(again):
            step = pairs[0]
            yield Evidence(
                step.time,
                f"step {step.step}: {optimizer.name} applied the {step.gradients} gradients that its step "
                f"{steps[steps.index(step) - 1].step} had applied, and none had arrived since",
                step.site,
            )


@law("last-gradient-dropped")
def a_step_follows_its_backward(log: WatchLog) -> Iterator[Evidence]:
    must(log.of(SeenStep), NO_STEP)
    for optimizer in log.optimizers:
        steps = log.steps_of(optimizer.number)
        if len(steps) < AGAIN or steps[0].step or steps[0].gradients or not all(s.gradients for s in steps[1:]):
            continue
        order = [e for e in log.events if isinstance(e, SeenBackward | SeenForward) or e in steps[:20]]
        # Between each backward pass and its step, the next batch went through the model.
        late = [
            any(isinstance(e, SeenForward) and e.recorded for e in _between(order, before, step))
            and not any(isinstance(e, SeenForward) for e in _before_backward(order, before, step))
            for before, step in pairwise(steps[:20])
        ]
        if all(late):
            yield Evidence(
                steps[0].time,
                f"step 0 of {optimizer.name} found no gradient, and each later step came after the next batch had gone "
                "through the model: the gradient of the last batch is never applied",
                steps[0].site,
            )


def _before_backward(order: Sequence[object], first: SeenStep, last: SeenStep) -> Sequence[object]:
    inside = order[order.index(first) + 1 : order.index(last)]
    at = next((n for n, event in enumerate(inside) if isinstance(event, SeenBackward)), 0)
    return inside[:at]


def _between(order: Sequence[object], first: SeenStep, last: SeenStep) -> Sequence[object]:
    """Return the events from the last backward pass between two steps to the later one."""
    inside = order[order.index(first) + 1 : order.index(last)]
    backwards = [n for n, event in enumerate(inside) if isinstance(event, SeenBackward)]
    return inside[backwards[-1] + 1 :] if backwards else []


@law("optimizer-misses-parameters")
def what_gets_gradients_is_held(log: WatchLog) -> Iterator[Evidence]:
    must(log.of(SeenStep), NO_STEP)
    must(log.models, "no model was seen")
    used = {number for model in log.models for number in map(id, model.parameters)}
    missed = [one for one in log.parameters if one.ever_arrived and not one.holders and one.models]
    for optimizer in log.optimizers:
        strangers = [one for one in optimizer.parameters if id(one) not in used and not one.ever_arrived]
        if optimizer.steps >= AGAIN and missed and strangers:
            names = ", ".join(one.name for one in missed[:3]) + (", ..." if len(missed) > 3 else "")
            yield Evidence(
                log.of(SeenStep)[0].time,
                f"{optimizer.name} holds {len(strangers)} parameters that no model in use has, while {len(missed)} "
                f"that get gradients ({names}) are in no optimizer",
                optimizer.site,
            )


@law("graph-detached")
def gradients_reach_what_is_stepped(log: WatchLog) -> Iterator[Evidence]:
    must(log.of(SeenStep), NO_STEP)
    for optimizer in log.optimizers:
        steps = log.steps_of(optimizer.number)
        reached = any(one.ever_arrived for one in optimizer.parameters)
        if len(steps) < AGAIN or reached or any(step.gradients for step in steps) or not log.of(SeenBackward):
            continue
        used = [model for model in log.models if set(map(id, model.parameters)) & set(map(id, optimizer.parameters))]
        if used and not any(event.reached for event in log.of(SeenBackward)):
            yield Evidence(
                steps[0].time,
                f"{log.backwards} backward passes have reached none of the {len(optimizer.parameters)} parameters of "
                f"{used[0].name} that {optimizer.name} steps",
                log.first_backward,
            )


@law("optimizer-recreated")
def an_optimizer_lasts(log: WatchLog) -> Iterator[Evidence]:
    must(log.of(SeenStep), NO_STEP)
    stepped = [one for one in log.optimizers if one.steps]
    must(len(stepped) > 2, "fewer than three optimizers were stepped")
    for first in stepped:
        same = [one for one in stepped if one.parameters == first.parameters and one.site == first.site]
        if len(same) < AGAIN or same[0] is not first or not first.has_state:
            continue
        yield Evidence(
            log.of(SeenStep)[0].time,
            f"{len(same)} times a new {same[0].name} was built for the same {len(same[0].parameters)} parameters: "
            "what it had gathered was lost each time",
            same[0].site,
            level="info",  # federated learning does so by intent
        )
