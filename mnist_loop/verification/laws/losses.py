"""The loss: what is minimised, against which targets, and how it is averaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # its usual name

from mnist_loop.verification.laws.gradients import UNSEEN, accumulates, describe, stepping
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.arithmetic import FLOOR, distance, sum_of
from mnist_loop.verification.recording.events import Forward, LossCall
from mnist_loop.verification.recording.oracle import one_hot, output_gradient
from mnist_loop.verification.recording.trace import Trace
from mnist_loop.verification.recording.window import CLIPPING, Window

CERTAIN = {"float64": 1e-8, "float32": 1e-2}
SHOWS = 1e-3  # share of the largest gradient of a sample from which another counts
UNKNOWN = "the loop brings a loss of its own: say with expects= what it expects of the model"

UNDECLARED = "declare objective=FUNCTION for a loop with an objective of its own"
NOT_COMPARED = "the objective cannot be compared"


def wrong_batches(trace: Trace) -> Iterator[tuple[Window, Forward, Tensor]]:
    """Yield the training forwards of windows that are not right, with the gradient that arrived at the outputs."""
    must(trace.training, UNSEEN)
    must(trace.knows_loss, UNKNOWN)
    must(all(forward.samples for forward in trace.training), "which samples were trained on cannot be told")
    for window in trace.windows:
        if (window.steps and window.is_right) or accumulates(window):
            continue
        for forward in window.forwards:
            if forward.output_gradients and forward.outputs is not None and len(forward.samples):
                found = sum_of(forward.output_gradients)
                # The gradient of a certain prediction is nothing but rounding.
                if max(float(found.norm()), float(right(trace, forward).norm())) > CERTAIN[trace.case.dtype]:
                    yield window, forward, found


def arrived(trace: Trace) -> Iterator[tuple[Window, Forward, Tensor]]:
    """Yield the forwards on known samples that a gradient arrived at, with that gradient, whatever the loss."""
    must(trace.training, UNSEEN)
    for window in trace.windows:
        for forward in window.forwards:
            if forward.output_gradients and forward.outputs is not None and forward.samples:
                yield window, forward, sum_of(forward.output_gradients)


def right(trace: Trace, forward: Forward) -> Tensor:
    """Return the gradient of the mean loss with respect to the outputs."""
    assert forward.outputs is not None
    return output_gradient(trace.case.loss, forward.outputs, trace.labels(forward))


def along(trace: Trace, found: Tensor, direction: Tensor) -> float | None:
    """Return the positive factor by which ``found`` is ``direction``; None if there is none."""
    size = float(direction.square().sum())
    if not size or not math.isfinite(size) or not bool(torch.isfinite(found).all()) or found.shape != direction.shape:
        return None
    factor = float((found * direction).sum()) / size
    error = float((found - factor * direction).norm())
    return factor if factor > 0 and error <= trace.tolerance * float(found.norm()) + FLOOR else None


def gradient_of(forward: Forward, loss: object) -> Tensor:
    """Return the gradient of ``loss``, a function of the outputs, with respect to them, in float64."""
    assert forward.outputs is not None
    assert callable(loss)
    outputs = forward.outputs.detach().double().cpu().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(outputs), outputs)
    return gradient


@law("softmax-before-cross-entropy")
def cross_entropy_is_given_logits(trace: Trace) -> Iterator[Evidence]:
    must(trace.case.loss == "cross-entropy", "the loss is not cross-entropy")
    # Of a loss of the loop's own it is not known what is right, but this is wrong whatever it is.
    for window, forward, found in wrong_batches(trace) if trace.knows_loss else _of_classes(trace):
        labels = trace.labels(forward)
        wrong = gradient_of(forward, lambda z, labels=labels: F.cross_entropy(z.softmax(dim=1), labels))
        if along(trace, found, wrong) is not None and along(trace, found, right(trace, forward)) is None:
            yield window.time, f"{window.name}: the gradient at the outputs is that of cross_entropy(softmax(outputs))"


def _of_classes(trace: Trace) -> Iterator[tuple[Window, Forward, Tensor]]:
    """Yield the forwards that were trained on and gave an output for each class, with the gradient that arrived."""
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    for window, forward, found in arrived(trace):
        labels, outputs = trace.labels(forward), forward.outputs
        assert outputs is not None
        fits = outputs.dim() == 2 and len(outputs) == len(labels) and outputs.shape[1] > int(labels.max())
        if fits and float(found.norm()) > CERTAIN[trace.case.dtype]:
            yield window, forward, found


@law("sigmoid-before-bce-with-logits")
def binary_cross_entropy_is_given_logits(trace: Trace) -> Iterator[Evidence]:
    logits = trace.case.loss in ("cross-entropy", "bce")
    must(logits and not trace.declared.own_objective, "the model gives no logits")
    for window, forward, found in arrived(trace):
        labels, outputs = trace.labels(forward), forward.outputs
        assert outputs is not None
        targets = one_hot(outputs, labels)
        wrong, due = (
            gradient_of(forward, lambda z, f=f, t=targets: F.binary_cross_entropy_with_logits(f(z), t))
            for f in (torch.sigmoid, lambda z: z)
        )
        if along(trace, found, wrong) is not None and along(trace, found, due) is None:
            told = "that of binary_cross_entropy_with_logits(sigmoid(outputs))"
            yield window.time, f"{window.name}: the gradient at the outputs is {told}"


@law("log-softmax-missing-for-nll")
def nll_is_given_log_probabilities(trace: Trace) -> Iterator[Evidence]:
    must(trace.case.loss == "cross-entropy", "the model gives log-probabilities")
    for window, forward, found in wrong_batches(trace):
        labels = trace.labels(forward)
        for name, log in (("logits", lambda z: z), ("softmax(logits)", lambda z: z.softmax(dim=1))):
            wrong = gradient_of(forward, lambda z, labels=labels, log=log: F.nll_loss(log(z), labels))
            size = wrong.flatten(1).norm(dim=1)
            if int((size > SHOWS * size.max()).sum()) < 2:
                continue  # the loss of one sample alone looks the same, as where a part of the batch is left out
            if along(trace, found, wrong) is not None and along(trace, found, right(trace, forward)) is None:
                yield window.time, f"{window.name}: the gradient at the outputs is that of nll_loss({name})"


@law("loss-broadcast")
def outputs_and_targets_have_one_shape(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    if trace.case.loss == "cross-entropy":
        yield from _each_with_each(trace)
    must(trace.case.loss == "mse", "the loss compares no numbers")
    for event in trace.recording.events:
        if isinstance(event, LossCall) and _is_broadcast(event):
            shapes = f"{tuple(event.outputs.shape)} against targets of shape {tuple(event.targets.shape)}"
            yield event.time, f"the loss was given outputs of shape {shapes}"
    for window, forward, found in wrong_batches(trace):
        targets = trace.labels(forward).double()
        wrong = gradient_of(forward, lambda z, t=targets: (z.flatten()[:, None] - t.flatten()[None, :]).square().mean())
        # Where the targets vanish beside the outputs, the right gradient is this one too.
        explained = along(trace, found, wrong) is not None and along(trace, found, right(trace, forward)) is None
        if len(forward.samples) > 1 and explained:
            yield window.time, f"{window.name}: each output was compared with the target of every sample"


def _is_broadcast(loss: LossCall) -> bool:
    """Return whether the shapes differ in such a way that pairs are made that do not belong together."""
    shape = torch.broadcast_shapes(loss.outputs.shape, loss.targets.shape)
    return int(math.prod(shape)) > max(loss.outputs.numel(), loss.targets.numel())


COMPARES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (F.mse_loss, F.l1_loss, F.smooth_l1_loss)


def _each_with_each(trace: Trace) -> Iterator[Evidence]:
    """Yield that a loss of the loop's own, of one number for each sample, holds each of them to all labels."""
    must(not trace.declared.own_objective, "the loop has an objective of its own")
    must("loss_fn" not in trace.roles and trace.declared.expects is None, "the loss is one of classes")
    known = [
        (window, numbers) for window, forward, found in arrived(trace) for numbers in _numbers(trace, forward, found)
    ]
    for compares in COMPARES:
        explained: list[Window] = []
        for window, (outputs, labels, found) in known:
            z = outputs.clone().requires_grad_()
            targets = labels.expand(len(labels), -1)
            (pairs,) = torch.autograd.grad(compares(z[:, None].expand_as(targets), targets), z)
            (due,) = torch.autograd.grad(compares(z, labels), z)
            if along(trace, found, due) is not None:
                continue  # such as where all labels of a batch are equal
            if along(trace, found, pairs) is None:
                break
            explained.append(window)
        else:
            if len(explained) > 1:
                told = "each output was compared with the label of every sample; targets of shape (N, 1) would fit it"
                yield explained[0].time, f"{explained[0].name}: {told}", "info"  # which the caller may have


def _numbers(trace: Trace, forward: Forward, found: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the number that a loss was taken of for each sample, the labels, and the gradient of the numbers."""
    assert forward.outputs is not None
    labels, outputs = trace.labels(forward).double(), forward.outputs.double().cpu()
    if len(labels) < 2 or len(outputs) != len(labels) or outputs.numel() % len(labels):
        return
    rows, gradients = outputs.reshape(len(labels), -1), found.reshape(len(labels), -1)
    columns = [int(column) for column in gradients.abs().sum(dim=0).nonzero()]
    if len(columns) == 1:
        yield rows[:, columns[0]], labels, gradients[:, columns[0]]


@law("loss-sum")
def the_loss_is_a_mean(trace: Trace) -> Iterator[Evidence]:
    must(trace.declared.accumulate == 1, "a loop that accumulates may divide wherever it likes")
    for window, forward, found in wrong_batches(trace):
        factor, count = along(trace, found, right(trace, forward)), len(forward.samples)
        if count > 1 and factor is not None and abs(factor / count - 1) <= trace.tolerance:
            yield window.time, f"{window.name}: the gradient at the outputs is {count} times that of the mean loss"


@law("loss-scaled")
def the_loss_is_not_scaled(trace: Trace) -> Iterator[Evidence]:
    must(trace.declared.accumulate == 1, "a loop that accumulates may divide wherever it likes")
    must("scaler" not in trace.roles, "a GradScaler scales the loss")
    must("lr" not in trace.roles and not trace.declared.own_optimizer, "the loop steps in its own manner")
    found = [(w, f, along(trace, gradient, right(trace, f))) for w, f, gradient in wrong_batches(trace)]
    factors = [factor for _, _, factor in found if factor is not None]
    batches = sum(len(window.forwards) for window in trace.windows)
    must(batches > 1, "fewer than two batches were trained on")
    if len(found) < batches:
        return  # some batches are right
    if len(factors) < len(found) or any(abs(factor - 1) <= CERTAIN["float32"] for factor in factors):
        return  # the gradient at the outputs is right: it was altered later, such as by clipping
    window, forward, factor = found[0]
    told = f"{window.name}: the gradient at the outputs is {factor:.4g} times that of the mean loss, as in all steps"
    for name, unit in (("", [1.0] * len(found)), ("1/N", [1 / len(f.samples) for _, f, _ in found])):
        ratios = [factor / one for factor, one in zip(factors, unit, strict=True)]
        if all(abs(ratio / ratios[0] - 1) <= trace.tolerance for ratio in ratios):
            per_sample = f": {ratios[0]:.4g} / {len(forward.samples)} samples" if name else ""
            if not name or abs(ratios[0] - 1) <= trace.tolerance:
                yield window.time, told + per_sample


@law("loss-wrong-target")
def the_loss_is_given_the_labels(trace: Trace) -> Iterator[Evidence]:
    for window, forward, found in wrong_batches(trace):
        labels, used = trace.labels(forward), _targets_used(trace, forward, found)
        if used is None or float(found.norm()) <= CERTAIN[trace.case.dtype]:
            continue  # the gradient is rounding alone
        # The target of a sample that is left out can be any.
        if not torch.equal(used, labels) and not _weighs_samples(trace, found, right(trace, forward)):
            shown = ", ".join(
                f"{float(u):g} for {float(t):g}" for u, t in zip(used.flatten(), labels.flatten(), strict=True)
            )
            yield window.time, f"{window.name}: the loss was taken at other targets: {shown}"


def _targets_used(trace: Trace, forward: Forward, found: Tensor) -> Tensor | None:
    """Return the targets that explain the gradient at the outputs; None if no targets do."""
    assert forward.outputs is not None
    outputs, count = forward.outputs.double().cpu(), len(forward.samples)
    if found.shape != outputs.shape:
        return None
    if trace.case.loss == "mse":
        return None  # any gradient has a target that would explain it
    if trace.case.loss == "bce":
        targets = outputs.sigmoid() - found * outputs.numel()
    else:
        probabilities = outputs.softmax(dim=1) if trace.case.loss == "cross-entropy" else torch.zeros_like(outputs)
        targets = probabilities - found * count
    labels = targets.flatten().round().long() if targets.numel() == count else targets.argmax(dim=1)
    return labels if float((targets - one_hot(outputs, labels)).abs().max()) <= max(trace.tolerance, 1e-6) else None


@law("mixes-samples")
def no_sample_sees_another(trace: Trace) -> Iterator[Evidence]:
    for forward in trace.forwards:
        if not forward.altered or len(forward.samples) < 2:
            continue
        rows = trace.images(forward).double().flatten(1)
        seen = forward.inputs.double().cpu().flatten(1)
        # The same pixels in other rows; the order within a row does not matter.
        same = seen.shape == rows.shape and torch.equal(seen.flatten().sort().values, rows.flatten().sort().values)
        if same and not torch.equal(seen.sort(dim=1).values, rows.sort(dim=1).values):
            yield forward.time, "the pixels of a batch reached the model in the rows of other samples"
    if trace.case.loss == "mse":
        return
    for window, forward, found in wrong_batches(trace):
        labels = trace.labels(forward)
        # Where outputs are large, the gradients of different losses can be one.
        if len(labels) < 2 or along(trace, found, right(trace, forward)) is not None:
            continue
        for name, loss in _over_the_batch(labels).items():
            if along(trace, found, gradient_of(forward, loss)) is not None:
                yield window.time, f"{window.name}: the gradient at the outputs is that of {name}"


def _over_the_batch(labels: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the losses that result from the wrong dimension, 0 instead of 1, or from rows that are made of columns."""
    dim = "over the batch, dim 0"
    return {
        f"cross_entropy(softmax) {dim}": lambda z: F.cross_entropy(z.softmax(dim=0), labels),
        f"cross_entropy(log_softmax) {dim}": lambda z: F.cross_entropy(z.log_softmax(dim=0), labels),
        f"nll_loss(log(softmax)) {dim}": lambda z: F.nll_loss(z.softmax(dim=0).clamp_min(1e-12).log(), labels),
        f"nll_loss(softmax) {dim}": lambda z: F.nll_loss(z.softmax(dim=0), labels),
        f"nll_loss(log_softmax) {dim}": lambda z: F.nll_loss(z.log_softmax(dim=0), labels),
        f"cross_entropy(outputs - mean) {dim}": lambda z: F.cross_entropy(z - z.mean(dim=0), labels),
        f"cross_entropy(outputs / norm) {dim}": lambda z: F.cross_entropy(F.normalize(z, dim=0), labels),
        "the outputs transposed and put into rows again": lambda z: F.cross_entropy(z.T.reshape(len(z), -1), labels),
    }


@law("objective-differs")
def each_step_applies_the_gradient_of_the_objective(trace: Trace) -> Iterator[Evidence]:
    for window in apart_from_the_objective(trace):
        apart = describe(window.applied, window.objective_gradient)
        yield window.time, f"{window.name}: held to the objective, the gradient {apart}"


def apart_from_the_objective(trace: Trace) -> Iterator[Window]:
    """Yield the windows whose steps apply another gradient than that of the declared objective."""
    must(trace.objective is not None, UNDECLARED)
    windows = [window for window in stepping(trace) if any(step.lr for step in window.steps)]
    unlike = [due.unlike for window in windows for due in window.dues if due.unlike]
    judged = [window for window in windows if not any(due.unlike for due in window.dues)]
    must(judged or not unlike, f"{NOT_COMPARED}: {unlike[0] if unlike else ''}")
    rounding = trace.tolerance if trace.declared.clip is None else max(CLIPPING, trace.tolerance)
    for window in judged:
        if distance(window.applied, window.objective_gradient, trace.floor) > rounding:
            yield window


@law("loss-differs")
def what_is_minimised_is_the_loss(trace: Trace) -> Iterator[Evidence]:
    yield from _smoothed_too_much(trace)
    weighed: list[Evidence] = []
    for window, forward, found in wrong_batches(trace):
        expected = right(trace, forward)
        if along(trace, found, expected) is not None:
            continue
        if _weighs_samples(trace, found, expected):
            told = f"{window.name}: the gradient at the outputs is the right one of each sample, with different weights"
            weighed.append((window.time, told, "info"))
            continue
        apart = float((found - expected).norm() / (expected.norm() or 1)) if found.shape == expected.shape else 1.0
        yield window.time, f"{window.name}: the gradient at the outputs differs by {apart:.2g} of its norm"
    yield from weighed


def _weighs_samples(trace: Trace, found: Tensor, expected: Tensor) -> bool:
    """Return whether each sample's gradient is the right one times a factor, such as 0 where a mask leaves it out."""
    if found.shape != expected.shape or found.dim() < 2 or not bool(torch.isfinite(found).all()):
        return False
    pairs = list(zip(found, expected, strict=True))
    if any(float(one.norm()) > FLOOR and along(trace, one, due) is None for one, due in pairs):
        return False
    return any(float(one.norm()) > FLOOR for one in found)


def _smoothed_too_much(trace: Trace) -> Iterator[Evidence]:
    """Yield that the targets of a label smoothing of the loop's own do not add up to one; it may weigh its loss so."""
    plain = trace.case.loss == "cross-entropy" and trace.declared.accumulate == 1 and "scaler" not in trace.roles
    if not plain or trace.knows_loss or trace.declared.own_objective:
        return
    found = [_smoothing(trace, forward) for forward in trace.training if forward.output_gradients and forward.samples]
    known = [pair for pair in found if pair is not None]
    if len(found) < 2 or len(known) < len(found):
        return
    (mass, rest), far = known[0], max(trace.tolerance, 1e-6)
    same = all(abs(m - mass) <= far and abs(r - rest) <= far for m, r in known)
    if same and rest > far and abs(mass - 1) > far:
        told = f"each sample's targets, {rest:.4g} for each other class, add up to {mass:.6g}, expected 1"
        yield trace.training[0].time, f"step 0: the gradient at the outputs is that of smoothed labels: {told}", "info"


def _smoothing(trace: Trace, forward: Forward) -> tuple[float, float] | None:
    """Return the sum of each sample's targets and the target of a wrong class that explain a gradient, if any do."""
    outputs, labels = forward.outputs, trace.labels(forward)
    if outputs is None or outputs.dim() != 2 or outputs.shape[1] < 4 or len(outputs) != len(labels):
        return None
    found = sum_of(forward.output_gradients) * len(labels)
    wrong = F.one_hot(labels, outputs.shape[1]) == 0
    probabilities, gradients = outputs.double().cpu().softmax(dim=1)[wrong], found[wrong]
    if not bool((probabilities + gradients).isfinite().all()):
        return None  # MKL prints an error for these, into what may be JSON
    design = torch.stack([probabilities, -torch.ones_like(probabilities)], dim=1)
    solution = torch.linalg.lstsq(design, gradients[:, None]).solution
    if float((design @ solution - gradients[:, None]).norm()) > max(trace.tolerance, 1e-8) * float(gradients.norm()):
        return None
    mass, rest = (float(value) for value in solution.flatten())
    return mass, rest
