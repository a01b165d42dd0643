"""Losses: what the loss functions are given."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.watching.laws.registry import Evidence, law, must
from mnist_loop.watching.log import Misuse, SeenBackward, SeenStep, WatchLog

FUNCTIONS = {
    "softmax-before-cross-entropy": "cross_entropy",
    "sigmoid-before-bce-with-logits": "binary_cross_entropy_with_logits",
    "log-softmax-missing-for-nll": "nll_loss",
    "loss-broadcast": "pairwise",
}


def _misused(log: WatchLog, bug: str) -> Iterator[Evidence]:
    function = FUNCTIONS[bug]
    name = "mse_loss, l1_loss, smooth_l1_loss or huber_loss" if function == "pairwise" else function
    must(log.calls.get(function), f"{name} was not called while it was watched closely")
    for event in log.of(Misuse):
        if event.bug == bug:
            yield Evidence(event.time, f"step {event.step}: {event.text}", event.site)


@law("softmax-before-cross-entropy")
def cross_entropy_is_given_logits(log: WatchLog) -> Iterator[Evidence]:
    yield from _misused(log, "softmax-before-cross-entropy")


@law("sigmoid-before-bce-with-logits")
def bce_with_logits_is_given_logits(log: WatchLog) -> Iterator[Evidence]:
    yield from _misused(log, "sigmoid-before-bce-with-logits")


@law("log-softmax-missing-for-nll")
def nll_loss_is_given_log_probabilities(log: WatchLog) -> Iterator[Evidence]:
    yield from _misused(log, "log-softmax-missing-for-nll")


@law("loss-broadcast")
def predictions_and_targets_have_one_shape(log: WatchLog) -> Iterator[Evidence]:
    yield from _misused(log, "loss-broadcast")


@law("loss-not-finite")
def no_loss_that_is_not_finite_is_applied(log: WatchLog) -> Iterator[Evidence]:
    backwards = [event for event in log.of(SeenBackward) if event.loss is not None]
    must(backwards, "no loss that is a number was seen at a backward pass")
    wrong = next((e for e in backwards if e.loss - e.loss != 0), None)
    if wrong is None:
        return
    # A loss that is not finite and is not applied, or whose gradients are put right, does no harm.
    applied = any(step.finite is False for step in log.of(SeenStep) if step.time > wrong.time)
    origin = f"; {wrong.origin}" if wrong.origin else ""
    after = ", and the parameters are not finite after the step that followed" if applied else ""
    yield Evidence(
        wrong.time,
        f"step {wrong.step}: the loss is {wrong.loss}{after}{origin}",
        wrong.site,
        level=None if applied else "info",
    )
