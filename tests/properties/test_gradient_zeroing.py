"""Gradient zeroing, beyond the laws: what the caller left is not applied, and the end is that of the replay by hand."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests import oracle
from tests.cases import cases, stepping_cases


def record_steps(optimizer, model):
    """Return a list that gets the parameters before, and the gradients in, each step of ``optimizer``."""
    steps = []

    def before_step(optimizer, args, kwargs):
        gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
        steps.append((oracle.parameters_of(model), gradients))

    optimizer.register_step_pre_hook(before_step)
    return steps


def assert_own_gradients(steps, batches):
    assert len(steps) == len(batches), f"{len(steps)} steps for {len(batches)} batches"
    for number, ((parameters, gradients), (images, labels)) in enumerate(zip(steps, batches, strict=True)):
        _, expected = oracle.loss_and_gradients(parameters, images, labels)
        for name, gradient in gradients.items():
            assert gradient is not None, f"step {number}: {name}.grad is None"
            oracle.assert_equal(gradient, expected[name], f"step {number}: {name}.grad")


@given(case=cases, leftover=st.floats(-1e3, 1e3))
def test_gradients_left_by_the_caller_are_not_applied(loop, device, case, leftover):
    """Gradients that the caller left in the parameters have no part in the first step.

    The law zero-grad-missing is of gradients that the loop left itself: those of its own step before.
    """
    model = case.model(device)
    optimizer = case.make_optimizer(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, leftover)
    steps = record_steps(optimizer, model)
    loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, device)
    assert_own_gradients(steps, list(case.loader()))


@given(case=stepping_cases, momentum=st.sampled_from([0.0, 0.9]), weight_decay=st.sampled_from([0.0, 0.1]))
def test_sgd_ends_in_the_parameters_of_the_replay(loop, device, case, momentum, weight_decay):
    """After SGD the parameters are those of the same batches replayed by hand, step for step.

    The laws take a recording apart, each step for itself. Here nothing watches, and the whole training counts: errors
    that no step shows alone may add up to no more than rounding. The replay is by the chain rule, without torch.
    """
    model = case.model(device)
    start = oracle.parameters_of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=case.lr, momentum=momentum, weight_decay=weight_decay)
    for _ in range(case.epochs):
        loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, device)
    expected, _ = oracle.sgd(start, list(case.loader()) * case.epochs, case.lr, momentum, weight_decay)
    for name, parameter in model.named_parameters():
        oracle.assert_equal(parameter.detach(), expected[name], f"after training, {name}", oracle.TRAINING_ROUNDING)
