"""Data: which samples are seen, in what order, how often, and as what."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mnist_loop.verification.laws.gradients import UNSEEN
from mnist_loop.verification.laws.modes import evaluations
from mnist_loop.verification.laws.registry import RUNS, Evidence, law, must
from mnist_loop.verification.laws.state import chosen_state
from mnist_loop.verification.recording.events import Draw, Forward, OptimizerStep, Pass, Tensors
from mnist_loop.verification.recording.identify import held_out
from mnist_loop.verification.recording.trace import Trace
from mnist_loop.verification.recording.window import EvaluationPass

FEWEST = 6  # samples, below which a random order may well be 0, 1, 2, ... by chance: 1 in 720


def orders(trace: Trace) -> list[tuple[int, ...]]:
    """Return the samples that each epoch trained on, in order."""
    must(trace.training, UNSEEN)
    must(all(forward.samples for forward in trace.training), "which samples were trained on cannot be told")
    return [tuple(sample for forward in epoch for sample in forward.samples) for epoch in trace.epochs.values()]


def shuffles(trace: Trace) -> bool:
    """Return whether the training data must be shuffled, by the handed loader or by the loop itself."""
    return trace.declared.shuffles_itself or bool(trace.roles & {"train_loader", "loader"})


def is_rising(order: tuple[int, ...]) -> bool:
    """Return whether the samples come in the order of the data set."""
    return list(order) == sorted(order)


@law("not-shuffled", numbers=False)
def training_data_are_shuffled(trace: Trace) -> Iterator[Evidence]:
    must(shuffles(trace), "declare shuffles_itself=True for a loop that makes its own loader")
    found = orders(trace)
    long = [order for order in found if len(order) >= FEWEST and len(set(order)) == len(order)]
    must(long, "too few samples to tell a random order")
    if all(is_rising(order) for order in long):
        yield (
            trace.training[0].time,
            f"each epoch trains on samples {', '.join(map(str, long[0][:6]))}, ... in this order",
        )


@law("same-order-each-epoch", numbers=False)
def each_epoch_has_an_order_of_its_own(trace: Trace) -> Iterator[Evidence]:
    found = [order for order in orders(trace) if len(set(order)) == len(order)]
    must(len(found) > 1 and min(map(len, found)) >= FEWEST, "too few epochs or samples to tell")
    if len(set(found)) == 1 and not is_rising(found[0]):
        second = list(trace.epochs.values())[1][0]
        yield second.time, f"every epoch has the order {', '.join(map(str, found[0][:6]))}, ..."


@law("test-shuffled", numbers=False)
def evaluation_has_a_fixed_order(trace: Trace) -> Iterator[Evidence]:
    found = [_seen(evaluation) for evaluation in evaluations(trace)]
    if len(found) > 1 and len(set(found)) == 1:
        return
    for evaluation, seen in zip(evaluations(trace), found, strict=True):
        if len(seen) >= FEWEST and len(set(seen)) == len(seen) and not is_rising(seen):
            yield evaluation.time, f"evaluation sees the samples in the order {', '.join(map(str, seen[:6]))}, ..."


def _seen(evaluation: EvaluationPass) -> tuple[int, ...]:
    return tuple(sample for forward in evaluation.forwards for sample in forward.samples)


@law("no-batches", numbers=False)
def a_small_data_set_is_trained_on(trace: Trace) -> Iterator[Evidence]:
    must(trace.case.samples < trace.case.batch_size, "the data set is larger than a batch")
    must(not trace.recording.compiled, "the model is compiled")
    trained = trace.training or trace.steps or moves_parameters(trace)
    if not trained and trace.failed is None:
        yield (
            0,
            f"{trace.case.samples} samples, batches of {trace.case.batch_size}: no step was taken, and no error raised",
        )


def moves_parameters(trace: Trace) -> bool:
    """Return whether any parameter ends with another value than it began with."""
    start, end = trace.recording.start, trace.recording.end
    return any(not torch.equal(start[name], end[name]) for name in trace.recording.parameters)


@law("evaluation-duplicates", numbers=False)
def evaluation_counts_each_sample_once(trace: Trace) -> Iterator[Evidence]:
    must(not trace.declared.dropout_at_inference, "dropout at inference asks several times")
    for evaluation in evaluations(trace):
        seen = _seen(evaluation)
        twice = sorted({sample for sample in seen if seen.count(sample) > 1})
        # Over a loader of the loop's own, it is not seen where one pass ends and the next one begins.
        once = seen[: trace.case.held_out]
        again = len(set(once)) == trace.case.held_out and seen == once * (len(seen) // len(once))
        if twice and not again:
            yield evaluation.time, f"samples {', '.join(map(str, twice))} were evaluated more than once"


@law("evaluation-incomplete", numbers=False)
def an_evaluation_is_of_all_of_its_data(trace: Trace) -> Iterator[Evidence]:
    must(trace.failed is None, "the loop raised")
    seen: dict[tuple[int, int, str], set[int]] = {}
    times: dict[tuple[int, int, str], int] = {}
    for evaluation in evaluations(trace):
        for forward in evaluation.forwards:
            if forward.split in ("val", "test"):
                call = -1 if evaluation.call is None else evaluation.call.time
                key = (call, evaluation.after_epoch, forward.split)
                seen.setdefault(key, set()).update(forward.samples)
                times.setdefault(key, forward.time)
    must(seen, "which samples were evaluated cannot be told")
    for key, samples in seen.items():
        left_out = trace.case.held_out - len(samples)
        if left_out > 0:
            yield times[key], f"{left_out} of {trace.case.held_out} samples of the {key[2]} data were not evaluated"


@law("stops-after-first-batch", numbers=False)
def an_epoch_is_all_of_the_data(trace: Trace) -> Iterator[Evidence]:
    must(trace.declared.steps_per_epoch is None, "the loop declares how many steps an epoch has")
    must(trace.case.samples >= 2 * trace.case.batch_size, "the data set has fewer than two batches")
    must(trace.failed is None, "the loop raised")
    size = trace.case.batch_size
    full = (trace.case.samples - len(held_out(trace.recording, trace.training))) // size * size
    must(full >= size, "what is left of the data set has no full batch")
    for epoch, order in zip(trace.epochs, orders(trace), strict=True):
        if len(order) < full:
            count = len(trace.epochs[epoch])
            yield trace.epochs[epoch][-1].time, f"epoch {epoch} ends after {count} of {trace.case.batches} batches"


@law("partial-batch-skipped", numbers=False)
def a_partial_batch_is_trained_on(trace: Trace) -> Iterator[Evidence]:
    must(trace.declared.steps_per_epoch is None, "the loop declares how many steps an epoch has")
    must(trace.failed is None, "the loop raised")
    rest = trace.case.samples % trace.case.batch_size
    must(rest, "no batch is partial")
    drawn = [event.index for event in trace.recording.events if isinstance(event, Draw) and event.split == "train"]
    if rest == trace.case.samples and not trace.forwards and len(set(drawn)) == rest:
        yield 0, f"the only batch, of {rest} samples, is drawn and not trained on"
        return
    must(rest < trace.case.samples, "the data set is smaller than a batch")
    for epoch, order in zip(trace.epochs, orders(trace), strict=True):
        left_out = sorted(set(range(trace.case.samples)) - set(order))
        drawn_too = all(drawn.count(sample) >= len(trace.epochs) for sample in left_out)
        full = {len(forward.samples) for forward in trace.epochs[epoch]} == {trace.case.batch_size}
        if len(left_out) != rest or not full or not drawn_too or held_out(trace.recording, trace.training):
            return
    yield trace.training[-1].time, f"the last batch, of {rest} samples, is drawn in each epoch and not trained on"


@law("epochs-miscounted", numbers=False)
def as_many_epochs_are_trained_as_were_asked_for(trace: Trace) -> Iterator[Evidence]:
    must(trace.recording.whole_fit and "epochs" in trace.roles, "the loop is not handed the number of epochs")
    must(trace.declared.steps_per_epoch is None, "the loop declares how many steps an epoch has")
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    must(not trace.declared.keeps_best, "a loop that keeps the best state may stop early")
    must(not any(step.closure for step in trace.steps), "a closure calls the model as often as it likes")
    must(trace.failed is None, "the loop raised")
    sizes = [len(order) for order in orders(trace)]
    must(trace.case.samples >= 2 * trace.case.batch_size, "the data set has fewer than two batches")
    wanted, found = trace.case.epochs, len(sizes)
    inside = any(e.call is None or e.call.what == "train" for e in trace.evaluations)
    must(found > wanted or not inside, "a loop that evaluates as it trains may stop early")
    if abs(found - wanted) == 1 and min(sizes[:wanted]) >= trace.case.samples // trace.case.batch_size:
        last = trace.training[-1].time
        extra = f", the last of {sizes[-1]} of {trace.case.samples} samples" if found > wanted else ""
        yield last, f"{found} epoch{'s' * (found != 1)} trained{extra}, but {wanted} were asked for"


@law("batches-repeated", numbers=False)
def an_epoch_has_each_sample_once(trace: Trace) -> Iterator[Evidence]:
    must(not any(step.closure for step in trace.steps), "a closure calls the model as often as it likes")
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    for epoch, order in zip(trace.epochs, orders(trace), strict=True):
        left_out = set(range(trace.case.samples)) - set(order)
        twice = {sample for sample in order if order.count(sample) > 1}
        if twice and left_out:
            yield (
                trace.epochs[epoch][0].time,
                f"epoch {epoch} trains on samples {_some(twice)} more than once, and never on {_some(left_out)}",
            )


def _some(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)[:5])) + (", ..." if len(numbers) > 5 else "")


def _map(trace: Trace, forwards: list[Forward]) -> tuple[float, float] | None:
    """Return a and b if the model's inputs are a times the images plus b, else None."""
    known = [forward for forward in forwards if forward.samples]
    images = [trace.images(forward).double().flatten() for forward in known]
    inputs = [forward.inputs.double().cpu().flatten() for forward in known]
    if not known or any(x.shape != y.shape for x, y in zip(images, inputs, strict=True)):
        return None
    x, y = torch.cat(images), torch.cat(inputs)
    if not bool((x + y).isfinite().all()):
        return None
    design = torch.stack([x, torch.ones_like(x)], dim=1)
    solution = torch.linalg.lstsq(design, y[:, None]).solution
    error = float((design @ solution - y[:, None]).norm())
    a, b = (float(value) for value in solution.flatten())
    return (a, b) if error <= trace.tolerance * (1 + float(y.norm())) else None


@law("validates-on-train", numbers=False)
def what_is_evaluated_is_held_out(trace: Trace) -> Iterator[Evidence]:
    must(trace.roles & {"val_loader", "val_set", "test_loader", "test_set"}, "the loop is handed no data to evaluate")
    must(trace.failed is None and trace.training, UNSEEN)
    trained = set(map(id, trace.training))
    calls = [call for call in trace.calls if call.what == "train"]
    others = [f for f in trace.forwards if id(f) not in trained and any(c.time < f.time < c.end for c in calls)]
    must(others, "the loop evaluates nothing")
    samples = {sample for forward in others for sample in forward.samples}
    held = held_out(trace.recording, trace.training)
    events = [event for call in calls for event in trace.recording.events[call.time : call.end]]
    drawn = {event.split for event in events if isinstance(event, Draw | Pass)}
    if drawn <= {"train"} and not held and samples == set(range(trace.case.samples)):
        yield others[0].time, "the loop is handed data to evaluate, draws none of them, and evaluates the training data"


@law("normalised-differently", numbers=False)
def training_and_evaluation_see_the_same_images(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    trained = _map(trace, trace.training)
    must(trained is not None, "training alters the images in its own manner")
    assert trained is not None
    for evaluation in evaluations(trace):
        evaluated = _map(trace, evaluation.forwards)
        apart = 0.0 if evaluated is None else max(abs(p - q) for p, q in zip(trained, evaluated, strict=True))
        if apart > 1e3 * trace.tolerance and evaluated is not None:
            yield evaluation.time, f"{_formula(trained)} in training, and {_formula(evaluated)} in evaluation"


@law("input-altered", numbers=False)
def images_reach_the_model_as_they_are(trace: Trace) -> Iterator[Evidence]:
    must(trace.forwards, UNSEEN)
    for forward in trace.forwards:
        if forward.altered and forward.samples:
            found = _map(trace, [forward])
            what = "something else" if found is None else _formula(found)
            yield forward.time, f"the model is given {what} instead of the images"


def _formula(found: tuple[float, float]) -> str:
    if abs(found[0] - 1) < 1e-9 and abs(found[1]) < 1e-9:
        return "the image itself"
    return f"{found[0]:.4g} times the image {'+' if found[1] >= 0 else '-'} {abs(found[1]):.4g}"


@law("split-leak")
def test_images_have_no_part_in_training(trace: Trace) -> Iterator[Evidence]:
    for one in trace.training:
        if one.split == "mixed" and one.output_gradients:
            yield one.time, "test samples are trained on, among those of the training set"
    other = trace.others.get("poisoned")
    must(other is not None, RUNS["poisoned"])
    assert other is not None
    must(trace.training and other.training, UNSEEN)
    for one, two in zip(trace.training, other.training, strict=False):
        if one.split == "train" and one.samples == two.samples and not torch.equal(one.inputs, two.inputs):
            yield one.time, "with other test images, the training images reach the model as other tensors"


@law("selects-on-test", needs=("relabelled",))
def test_labels_choose_nothing(trace: Trace) -> Iterator[Evidence]:
    other = trace.others["relabelled"]
    takes_test = trace.roles & {"test_loader", "test_set"}
    must(takes_test, "the loop that trains is handed no test data")
    takes_val = trace.roles & {"val_loader", "val_set"}
    must(takes_val or not trace.declared.keeps_best, "keeps_best says that the data handed as test are for selection")
    must(trace.failed is None and other.failed is None, "the loop raised")
    one, two = chosen_state(trace), chosen_state(other)
    changed = [name for name in one if name in two and not torch.equal(one[name], two[name])]
    if changed:
        yield len(trace.recording.events), f"with other test labels the weights that are kept are others: {changed[0]}"


@law("not-reproducible", needs=("again",))
def the_same_seed_gives_the_same_bits(trace: Trace) -> Iterator[Evidence]:
    again = trace.others["again"]
    must(trace.case.device == "cpu", "CUDA's kernels need not be deterministic")
    must(trace.failed is None and again.failed is None, "the loop raised")
    for one, two in zip(trace.training, again.training, strict=False):
        if one.samples != two.samples:
            which = f"samples {_some(set(one.samples))}, then {_some(set(two.samples))}"
            yield one.time, f"the batches of epoch {one.epoch} differ between two runs: {which}"
            return
    for name, time, first, second in _states(trace, again):
        if not torch.equal(first, second):
            yield time, f"{name} differs between two runs by {float((first.double() - second.double()).norm()):.3g}"


def _states(trace: Trace, again: Trace) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    pairs: list[tuple[int, Tensors, Tensors]] = []
    for one, two in zip(trace.steps, again.steps, strict=False):
        if isinstance(one, OptimizerStep):
            pairs.append((one.time, one.before, two.before))
    pairs.append((len(trace.recording.events), trace.recording.end, again.recording.end))
    for time, first, second in pairs:
        for name in first:
            yield name, time, first[name], second[name]
