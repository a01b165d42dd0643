"""Train and eval mode, gradients on and off, and what an evaluation changes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from mnist_loop.verification.laws.gradients import UNSEEN
from mnist_loop.verification.laws.losses import apart_from_the_objective
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.events import Beside, Forward, Tensors
from mnist_loop.verification.recording.trace import Trace
from mnist_loop.verification.recording.window import EvaluationPass

NO_EVALUATION = "the loop evaluates nothing: name its evaluation with --evaluate"
PLAIN = ("plain", "tied", "frozen")  # models that are the same in train and in eval mode


def wrongly_in_eval_mode(trace: Trace, forward: Forward) -> list[str]:
    """Return the modules that are in eval mode in a training forward without being declared so."""
    return sorted((set(forward.eval_modules) & trace.leaves) - trace.oracle.right_eval_modules(forward))


def first_evaluation(trace: Trace) -> int:
    """Return the time of the first evaluation; without one, the time after the last event."""
    return min((evaluation.time for evaluation in trace.evaluations), default=len(trace.recording.events))


def evaluations(trace: Trace) -> list[EvaluationPass]:
    """Return the passes of evaluation."""
    must(trace.evaluations, NO_EVALUATION)
    return trace.evaluations


def listed(names: list[str]) -> str:
    """Return the first three names as text."""
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")


@law("trains-in-eval-mode", numbers=False)
def training_begins_in_train_mode(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    trained = [forward for forward in trace.training if forward.split == "train"]
    for forward in trained:
        wrong = wrongly_in_eval_mode(trace, forward)
        if wrong and (forward is trained[0] or forward.time < first_evaluation(trace)):
            yield forward.time, f"training forward in epoch {forward.epoch}: {listed(wrong)} is in eval mode"


@law("train-mode-assumed", numbers=False)
def training_sets_train_mode(trace: Trace) -> Iterator[Evidence]:
    must(trace.case.begins_in_eval, "the model is handed over in train mode")
    must(trace.training, UNSEEN)
    wrong = wrongly_in_eval_mode(trace, trace.training[0])
    if wrong:
        yield trace.training[0].time, f"handed a model in eval mode, the loop trains it so: {listed(wrong)}"


@law("train-mode-not-restored", numbers=False)
def training_goes_on_in_train_mode(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    must(
        any(forward.time > first_evaluation(trace) for forward in trace.training),
        "nothing is trained after an evaluation",
    )
    trained = [forward for forward in trace.training if forward.split == "train"]
    first = trained[0] if trained else trace.training[0]
    for forward in trained:
        wrong = wrongly_in_eval_mode(trace, forward)
        if wrong and forward.time > first_evaluation(trace) > first.time and not wrongly_in_eval_mode(trace, first):
            yield (
                forward.time,
                f"training forward in epoch {forward.epoch}, after an evaluation: {listed(wrong)} is in eval mode",
            )


@law("train-mode-unfreezes")
def frozen_statistics_stay(trace: Trace) -> Iterator[Evidence]:
    must(trace.declared.frozen, "declare frozen= for a loop that holds a part fixed")
    start = trace.recording.start
    fixed = [
        name
        for name in start
        if name not in trace.recording.parameters and any(name.startswith(part) for part in trace.declared.frozen)
    ]
    must(fixed, "what is frozen has no buffers")
    for forward in [*trace.forwards, None]:
        state = trace.recording.end if forward is None else forward.state
        moved = [name for name in fixed if name in state and not torch.equal(state[name], start[name])]
        if moved:
            time = len(trace.recording.events) if forward is None else forward.time
            yield time, f"{listed(moved)} moved, although it is declared frozen"


@law("teacher-in-train-mode", numbers=False)
def other_models_are_in_the_mode_that_they_should_be_in(trace: Trace) -> Iterator[Evidence]:
    if trace.objective is not None:
        for window in apart_from_the_objective(trace):
            changed = {name: mode for due in window.dues for name, mode in due.modes.items()}
            if changed:
                name, trains = next(iter(changed.items()))
                has, should = ("train", "eval") if trains else ("eval", "train")
                told = f"{window.name}: held to the objective, the gradient differs"
                yield window.time, f"{told}: {name} is in {has} mode, should be in {should} mode", "bug"
        return
    must(trace.case.watch == "graphs", "declare objective=FUNCTION, or see the case in which other models are watched")
    trained = [forward.time for forward in trace.training]
    must(trained, UNSEEN)
    for event in trace.recording.events:
        if isinstance(event, Beside) and trained[0] <= event.time <= trained[-1]:
            yield event.time, f"{event.kind} of another model is called in train mode and without gradients"


@law("evaluates-in-train-mode", numbers=False)
def evaluation_runs_in_eval_mode(trace: Trace) -> Iterator[Evidence]:
    must(not trace.declared.dropout_at_inference, "the loop declares dropout at inference")
    must(trace.evaluations, NO_EVALUATION)
    must(trace.case.model not in PLAIN, "the model is the same in both modes")
    for evaluation in evaluations(trace):
        for forward in evaluation.forwards:
            wrong = sorted(trace.leaves - set(forward.eval_modules))
            if wrong:
                moved = _moved_by(trace, forward)
                consequence = f", and {listed(moved)} moved" if moved else ""
                yield forward.time, f"evaluation forward: {listed(wrong)} is in train mode{consequence}"


def _moved_by(trace: Trace, forward: Forward) -> list[str]:
    """Return the buffers that a forward changed."""
    later = [other.state for other in trace.forwards if other.time > forward.time]
    after = later[0] if later else trace.recording.end
    names = [name for name in after if name not in trace.recording.parameters]
    return [name for name in names if name in forward.state and not torch.equal(after[name], forward.state[name])]


@law("evaluates-with-grad", numbers=False)
def evaluation_needs_no_gradients(trace: Trace) -> Iterator[Evidence]:
    for evaluation in evaluations(trace):
        for forward in evaluation.forwards:
            if forward.grad and forward.differentiable:
                yield forward.time, "evaluation forward: gradients are on, and a graph was built"


@law("metric-in-train-mode", numbers=False)
def no_extra_forward_in_train_mode(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    must(trace.case.model not in PLAIN, "the model is the same in both modes")
    trained = set(map(id, trace.training))
    for forward in trace.forwards:
        if id(forward) not in trained and forward.split == "train" and "the model" not in forward.eval_modules:
            if any(step.closure and step.time < forward.time for step in trace.steps):
                continue  # a line search tries points that it does not take
            moved = _moved_by(trace, forward)
            consequence = f", which moved {listed(moved)} once more" if moved else ""
            yield forward.time, f"a forward of training samples without backward, in train mode{consequence}"


@law("functional-dropout")
def evaluation_is_not_random(trace: Trace) -> Iterator[Evidence]:
    must(not trace.declared.dropout_at_inference, "the loop declares dropout at inference")
    calls = [call for call in trace.calls if call.what == "evaluate" and call.epoch == 0 and call.error is None]
    must(len(calls) == 2, NO_EVALUATION)
    first, second = calls
    passes = [[f for f in trace.forwards if call.time <= f.time < call.end] for call in calls]
    must(all(passes), "the forwards of the evaluation were not seen")
    in_eval = all(trace.leaves <= set(forward.eval_modules) for forwards in passes for forward in forwards)
    if not in_eval or not _same(first.before, second.before):
        return
    for one, other in zip(*passes, strict=False):
        if one.samples == other.samples and not torch.equal(one.inputs, other.inputs):
            yield other.time, "two evaluations handed the model different inputs for the same images"
    if all(_same_outputs(one, other) for one, other in zip(*passes, strict=False)):
        return  # what differs all the same is a clock, whatever its name
    for name, number in first.result.numbers.items():
        again = second.result.numbers.get(name, number)
        same_order = [f.samples for f in passes[0]] == [f.samples for f in passes[1]]
        if same_order and again != number and not (again != again and number != number) and not _is_clock(name):
            yield (
                second.time,
                f"two evaluations of one state, all in eval mode: {name} is {number:.6g}, then {again:.6g}",
            )


def _same_outputs(one: Forward, other: Forward) -> bool:
    return one.outputs is not None and other.outputs is not None and torch.equal(one.outputs, other.outputs)


def _is_clock(name: str) -> bool:
    return any(word in name.lower() for word in ("time", "second", "elapsed", "duration", "runtime", "per_s", "speed"))


def _same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@law("evaluation-updates")
def evaluation_leaves_the_training_alone(trace: Trace) -> Iterator[Evidence]:
    for forward in trace.forwards:
        if forward.output_gradients and (forward.split in ("val", "test") or trace.call_at(forward) == "evaluate"):
            yield (
                forward.time,
                f"a backward pass went through {len(forward.samples)} samples of the {forward.split} data",
            )
    calls = [call for call in trace.calls if call.what == "evaluate"]
    must(calls or trace.evaluations, NO_EVALUATION)
    for call in calls:
        moved = [n for n in trace.recording.parameters if not torch.equal(call.before[n], call.after[n])]
        if moved:
            yield call.time, f"evaluation changed {listed(moved)}"
        # To clear gradients is harmless.
        left = sorted(
            name
            for name, gradient in call.gradients_after.items()
            if name not in call.gradients_before or not torch.equal(gradient, call.gradients_before[name])
        )
        if left and call.error is None:
            yield call.time, f"evaluation changed the gradient of {listed(left)}"
