"""Metrics, beyond the laws: the training loss to the last digit, accuracy from 0 to 1, the history, the callbacks."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests import oracle
from tests.cases import cases


def rounding(value):
    return oracle.ROUNDING * (1 + abs(value))


@given(case=cases)
def test_training_loss_is_the_mean_over_images(loop, device, case):
    """The training loss is the sum over images of each one's loss before its batch's step, divided by N.

    A law knows some wrong means when it sees them, and lets the others pass: a training may return any number.
    """
    model = case.model(device)
    start = oracle.parameters_of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=case.lr)
    loss = loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, device)
    _, losses = oracle.sgd(start, case.loader(), case.lr)
    sizes = [len(labels) for _, labels in case.loader()]
    expected = sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / case.samples
    assert abs(loss - expected) <= 100 * rounding(expected), f"the training loss is {loss}, but should be {expected}"


@given(case=cases)
def test_a_model_that_is_always_right_has_accuracy_one(loop, device, case):
    """Accuracy is 1 for a model that knows the labels, and 0 for one that names the next class instead.

    To the laws per cent and counts are as good.
    """

    class Knowing(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.shift = shift

        def forward(self, labels):
            return nn.functional.one_hot((labels + self.shift) % case.classes, case.classes).double()

    labels = case.dataset().tensors[1]
    batches = list(zip(labels.split(case.batch_size), labels.split(case.batch_size), strict=True))
    assert loop.evaluate(Knowing(0), batches, nn.CrossEntropyLoss(), device).accuracy == 1.0
    assert loop.evaluate(Knowing(1), batches, nn.CrossEntropyLoss(), device).accuracy == 0.0


@given(case=cases)
def test_the_history_is_what_was_trained_and_evaluated(loop, device, case):
    """`fit` returns a line for each epoch, with the numbers that training and evaluating in turn give, to the bit."""
    model, again = case.model(device), case.model(device)
    optimizer, optimizer_again = case.make_optimizer(model), case.make_optimizer(again)
    told = []
    loss_fn = nn.CrossEntropyLoss()
    history = loop.fit(
        model, case.loader(), case.loader(7), loss_fn, optimizer, device, case.epochs, on_epoch=told.append
    )
    assert told == history
    assert [line.epoch for line in history] == list(range(1, case.epochs + 1))
    for line in history:
        train_loss = loop.train_one_epoch(again, case.loader(), loss_fn, optimizer_again, device)
        test = loop.evaluate(again, case.loader(7), loss_fn, device)
        assert (line.train_loss, line.test_loss, line.test_accuracy) == (train_loss, test.loss, test.accuracy)


def test_the_lesson_has_five_epochs(loop, models):
    """Without a number of epochs, `fit` trains for the lesson's five."""
    with torch.random.fork_rng():
        model = models.MLP(4, 2, 2)
    batches = [(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    assert len(loop.fit(model, batches, batches, nn.CrossEntropyLoss(), optimizer, "cpu")) == 5


@given(case=cases, first_epoch=st.integers(1, 3))
def test_callbacks_are_told_each_batch_and_its_loss(loop, device, case, first_epoch):
    """``on_batch`` gets the numbers of epoch and batch, and a loss without a graph; their mean is the epoch's."""
    model = case.model(device)
    told = []
    history = loop.fit(
        model,
        case.loader(),
        case.loader(),
        nn.CrossEntropyLoss(),
        case.make_optimizer(model),
        device,
        case.epochs,
        first_epoch=first_epoch,
        on_batch=lambda epoch, batch, loss: told.append((epoch, batch, loss)),
    )
    epochs = range(first_epoch, case.epochs + 1)
    assert [(epoch, batch) for epoch, batch, _ in told] == [(e, b) for e in epochs for b in range(case.steps)]
    assert not any(loss.requires_grad for _, _, loss in told)
    sizes = [len(labels) for _, labels in case.loader()]
    for line in history:
        losses = [float(loss) for epoch, _, loss in told if epoch == line.epoch]
        mean = sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / case.samples
        assert math.isclose(mean, line.train_loss, rel_tol=oracle.ROUNDING)
