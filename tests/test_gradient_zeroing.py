"""Gradient zeroing: what a step applies is the gradient of its own batch, and of nothing else."""

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


@given(case=cases)
def test_each_step_applies_the_gradient_of_its_own_batch(loop, device, case):
    """The gradient that a step applies is that of the batch before it, and nothing of earlier batches or epochs."""
    model = case.model(device)
    optimizer = case.make_optimizer(model)
    steps = record_steps(optimizer, model)
    for _ in range(case.epochs):
        loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, device)
    assert_own_gradients(steps, list(case.loader()) * case.epochs)


@given(case=cases, leftover=st.floats(-1e3, 1e3))
def test_gradients_left_by_the_caller_are_not_applied(loop, device, case, leftover):
    """Gradients that the caller left in the parameters have no part in the first step."""
    model = case.model(device)
    optimizer = case.make_optimizer(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, leftover)
    steps = record_steps(optimizer, model)
    loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, device)
    assert_own_gradients(steps, list(case.loader()))


@given(case=stepping_cases, momentum=st.sampled_from([0.0, 0.9]), weight_decay=st.sampled_from([0.0, 0.1]))
def test_sgd_ends_in_the_parameters_of_the_replay(loop, device, case, momentum, weight_decay):
    """After SGD the parameters are those of the same batches replayed by hand, step for step."""
    model = case.model(device)
    start = oracle.parameters_of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=case.lr, momentum=momentum, weight_decay=weight_decay)
    for _ in range(case.epochs):
        loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, device)
    expected, _ = oracle.sgd(start, list(case.loader()) * case.epochs, case.lr, momentum, weight_decay)
    for name, parameter in model.named_parameters():
        oracle.assert_equal(parameter.detach(), expected[name], f"after training, {name}", oracle.TRAINING_ROUNDING)


@given(case=stepping_cases)
def test_any_optimizer_gets_one_step_a_batch(loop, case):
    """Any optimizer ends where the same optimizer ends that is handed the oracle's gradients, one step a batch."""
    model, replayed = case.model(), case.model()
    optimizer, replaying = case.make_optimizer(model), case.make_optimizer(replayed)
    for _ in range(case.epochs):
        loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, "cpu")
        for images, labels in case.loader():
            _, gradients = oracle.loss_and_gradients(oracle.parameters_of(replayed), images, labels)
            for name, parameter in replayed.named_parameters():
                parameter.grad = torch.from_numpy(gradients[name])
            replaying.step()
    # Adam divides a gradient by its own size, so that where a gradient is nearly zero its rounding is not small: the
    # two may part by the whole of such a step. Elements whose gradients never come near zero tell.
    for (name, found), expected in zip(model.named_parameters(), replayed.parameters(), strict=True):
        oracle.assert_equal(found.detach(), expected.detach(), f"after training, {name}", ADAPTIVE_ROUNDING)


# The adaptive optimizers add 1e-8 to what they divide by: a rounding error of 1e-16 in a gradient of zero moves a
# parameter by at most lr * 1e-16 / 1e-8 = 1e-9 a step.
ADAPTIVE_ROUNDING = 1e-7
