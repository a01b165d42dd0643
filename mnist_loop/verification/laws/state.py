"""State: buffers, the best weights, averaged weights, checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from mnist_loop.bugs import Severity
from mnist_loop.verification.cases import staged
from mnist_loop.verification.laws.gradients import UNSEEN
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.events import CopyForward, Forward, Tensors
from mnist_loop.verification.recording.oracle import mean_loss
from mnist_loop.verification.recording.trace import Trace
from mnist_loop.verification.recording.window import EvaluationPass

STEP = 1 / 39  # a little more than a step of the accuracy of 40 samples


@law("state-differs")
def buffers_follow_the_training_batches_alone(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    must(not trace.recording.compiled, "the model is compiled")
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    must(not trace.declared.dropout_at_inference and not trace.declared.trains_in_eval_mode, "modes are its own")
    names = [name for name in trace.recording.start if name not in trace.recording.parameters]
    must(names, "the model has no buffers")
    must(not any(step.closure for step in trace.steps), "a closure calls the model as often as it likes")
    for forward, following in zip(trace.training, [*trace.training[1:], None], strict=True):
        if following is not None and not trace.is_judged(following.time):
            return
        trace.oracle.outputs(forward, trace.oracle.right_eval_modules(forward))
        expected = {name: buffer.cpu() for name, buffer in trace.oracle.model().named_buffers()}
        found = _following(trace, forward) if following is None else following.state
        if following is not None and trace.restored(following.state, forward.time):
            continue
        wrong = [name for name in names if name in found and not _close(trace, found[name], expected[name])]
        if wrong:
            yield (
                forward.time,
                f"after a forward in epoch {forward.epoch}, {', '.join(wrong)} is not what its batch makes of it",
            )


def _following(trace: Trace, forward: Forward) -> Tensors:
    """Return the state at the first forward after this one; without one, the state after the training."""
    later = next((other.state for other in trace.forwards if other.time > forward.time), None)
    after = next((step.after for step in reversed(trace.steps) if step.after), {})
    # An evaluation may put other weights in, such as averaged ones, with the buffers of these.
    if later is not None and all(torch.equal(later[name], after[name]) for name in after):
        return later
    # A loop may load its best state at the end.
    loads = trace.declared.keeps_best or bool(trace.evaluations)
    return {} if loads else [call for call in trace.calls if call.what == "train"][-1].after


def _close(trace: Trace, found: Tensor, expected: Tensor) -> bool:
    if not found.is_floating_point():
        return torch.equal(found.cpu(), expected.cpu().to(found.dtype))
    error = float((found.double().cpu() - expected.double()).norm())
    return error <= trace.tolerance * (1 + float(expected.double().norm()))


def chosen_state(trace: Trace) -> Tensors:
    """Return the state that the loop ends with: the one it returns, or that of its model."""
    results = [call.result.state for call in trace.calls if call.what == "train"]
    returned = results[-1] if results else None
    return trace.recording.end if returned is None else returned


def scores(trace: Trace, evaluation: EvaluationPass) -> tuple[float, float]:
    """Return loss and negative accuracy of an evaluation, per sample: the lower, the better."""
    loss, correct, count = 0.0, 0, 0
    for forward in evaluation.forwards:
        assert forward.outputs is not None
        labels = trace.labels(forward)
        loss += mean_loss(trace.case.loss, forward.outputs, labels) * len(labels)
        correct += int((forward.outputs.argmax(dim=1).cpu() == labels).sum())
        count += len(labels)
    return loss / count, -correct / count


@law("best-is-last")
def the_best_state_is_the_best(trace: Trace) -> Iterator[Evidence]:
    must(trace.declared.keeps_best, "declare keeps_best=True for a loop that keeps the best state")
    rounds = [e for e in trace.evaluations if e.after_epoch and all(f.samples for f in e.forwards)]
    rounds = [e for e in rounds if e.call is None or e.call.epoch]
    must(len(rounds) > 1, "fewer than two evaluations were seen")
    table = [scores(trace, evaluation) for evaluation in rounds]
    good = {n for kind in (0, 1) for n in range(len(table)) if table[n][kind] == min(row[kind] for row in table)}
    last = len(rounds) - 1
    must(last not in good, "the last state is the best")
    chosen = chosen_state(trace)
    names = [name for name in trace.recording.parameters if name in chosen]
    must(names, "the loop returns no state that could be compared")

    def is_state(forward: Forward) -> bool:
        return all(torch.equal(chosen[name], forward.state[name]) for name in names)

    if not any(is_state(rounds[n].forwards[0]) for n in good):
        which = "the last" if is_state(rounds[last].forwards[0]) else "none"
        losses = ", ".join(f"{row[0]:.4g}" for row in table)
        yield rounds[last].time, f"losses {losses}: the state kept as the best is {which} of those evaluated"


@law("patience-wrong", numbers=False)
def early_stopping_counts_from_the_last_improvement(trace: Trace) -> Iterator[Evidence]:
    must(trace.case.patience is not None, "declare patience=N for a fit that stops early")
    assert trace.case.patience is not None
    must(trace.failed is None, "the loop raised")
    must("epochs" in trace.roles, "the loop is not handed the number of epochs")
    plan, stopped = staged.plan(trace.case.patience), len(trace.epochs)
    rounds = [e for e in trace.evaluations if e.after_epoch and (e.call is None or e.call.what == "train")]
    held_out = [e for e in rounds if e.forwards[0].split in ("val", "test")]
    seen = {e.after_epoch: -scores(trace, e)[1] for e in held_out}
    planned = all(n in seen and abs(seen[n] - plan[n - 1]) < STEP for n in range(1, stopped + 1))
    must(stopped and planned, "the evaluations do not follow the plan")
    losses = [scores(trace, EvaluationPass(forwards))[0] for forwards in trace.epochs.values()]
    must(all(later < one for one, later in pairwise(losses)), "the loss of the training does not fall in each epoch")
    since, told = staged.stale(plan[:stopped]), f"patience {trace.case.patience}: stopped after {stopped} epochs"
    shown = ", ".join(f"{accuracy:.2g}" for accuracy in plan[:stopped])
    level: Severity = "info" if trace.declared.patience is None else "bug"
    if since < trace.case.patience and stopped < trace.case.epochs:
        yield held_out[-1].time, f"{told}, {since} after the last improvement; held-out accuracies {shown}", level
    if since > trace.case.patience + 1 and trace.declared.patience is not None:
        yield held_out[-1].time, f"{told}, {since} after the last improvement; held-out accuracies {shown}", "info"


@law("averaged-weights-wrong")
def averaged_weights_follow_their_recurrence(trace: Trace) -> Iterator[Evidence]:
    yield from _evaluated_with_other_statistics(trace)
    decay = trace.declared.average
    must(decay is not None, "declare average=d for a loop that averages its weights")
    assert decay is not None
    must(
        trace.case.model != "tied", "a state dict has tied weights twice, and its average twice as much of the new ones"
    )
    must(trace.windows and trace.windows[-1].steps, UNSEEN)
    last = [call for call in trace.calls if call.what == "train"][-1]
    result = last.result.state
    must(result is not None, "the loop returns no averaged model or state")
    assert result is not None
    windows = [window for window in trace.windows if window.steps]
    end = len(trace.recording.events)
    for name in (n for n in trace.recording.parameters if n in result):
        wanted = []
        for call, since in ((None, windows), (last, [window for window in windows if window.time > last.time])):
            values = [window.after[name].double().cpu() for window in since]
            start = (trace.recording.start if call is None else call.before)[name].double().cpu()
            wanted += [_average(first, values[skip:], decay) for skip, first in enumerate((start, values[0]))]
        if not any(_close(trace, result[name], value) for value in wanted):
            apart = min(float((result[name].double().cpu() - value).norm() / value.norm()) for value in wanted)
            yield end, f"the averaged {name} differs from the recurrence with decay {decay} by {apart:.2g} of its norm"
    for name, start in trace.recording.start.items():
        if name in trace.recording.parameters or not start.is_floating_point():
            continue
        moved = not torch.equal(trace.recording.end[name], start)
        if moved and (name not in result or torch.equal(result[name].to(start), start)):
            yield end, f"{name} of the averaged model is still what it was before the training"


def _evaluated_with_other_statistics(trace: Trace) -> Iterator[Evidence]:
    """Yield that a copy with other parameters normalises by the statistics of the model, or of its start."""
    start = trace.recording.start
    for event in trace.recording.events:
        if not isinstance(event, CopyForward) or event.state.keys() != start.keys():
            continue
        statistics = [
            name
            for name in start
            if name.endswith(("running_mean", "running_var"))
            and name.rpartition(".")[0] in event.eval_modules
            and not torch.equal(event.original[name], start[name])
        ]
        for before, whose in ((start, "what it was before the training"), (event.original, "that of the last step")):
            other = any(not torch.equal(event.state[name], before[name]) for name in trace.recording.parameters)
            left = [name for name in statistics if torch.equal(event.state[name], before[name])]
            if other and left and (before is start or event.averages):
                told = f"a copy of the model with other parameters is evaluated, and its {left[0]} is {whose}"
                yield event.time, told, "bug" if before is start else "info"


def _average(start: Tensor, values: list[Tensor], decay: float) -> Tensor:
    for value in values:
        start = decay * start + (1 - decay) * value
    return start


@law("resume-incomplete", needs=("resumed",))
def resuming_equals_not_stopping(trace: Trace) -> Iterator[Evidence]:
    resumed = trace.others["resumed"]
    if resumed.failed is not None:
        yield resumed.failed.time, f"saving or loading raised {resumed.failed.error}"
        return
    end, other = trace.recording.end, resumed.recording.end
    wrong = [name for name in end if not torch.equal(end[name], other[name])]
    if wrong:
        apart = float((end[wrong[0]].double() - other[wrong[0]].double()).norm())
        yield len(trace.recording.events), f"{', '.join(wrong[:3])} ends elsewhere: {wrong[0]} by {apart:.3g}"
    kept, again = chosen_state(trace), chosen_state(resumed)
    lost = [name for name in kept if name in again and not torch.equal(kept[name], again[name])]
    if lost:
        yield len(trace.recording.events), f"the state that is returned is another: {', '.join(lost[:3])} differs"
