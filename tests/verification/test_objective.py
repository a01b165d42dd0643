"""An objective that is declared: what it is handed, and what is said of one that does not fit."""

import random

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import nn

from mnist_loop.errors import UserError
from mnist_loop.verification.options import Options
from mnist_loop.verification.verify import verify

SHORT = Options(fixed_cases=3, random_cases=0)


def scaled(model, loader, optimizer, epochs, temperature=2.0):
    """A loop whose objective depends on a variable that changes."""
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x) / temperature, y).backward()
            optimizer.step()
        temperature += 1


def of_temperature(model, images, labels, temperature):
    return F.cross_entropy(model(images) / temperature, labels)


def of_nothing_else(model, images, labels):
    return F.cross_entropy(model(images), labels)


def in_reverse(model, loader, loss_fn, optimizer):
    """Mixup that draws the order before the weight."""
    model.train()
    for x, y in loader:
        other = torch.randperm(len(x))
        weight = random.gauss(0, 1) * torch.rand(()).item()
        outputs = model(weight * x + (1 - weight) * x[other])
        optimizer.zero_grad()
        (weight * loss_fn(outputs, y) + (1 - weight) * loss_fn(outputs, y[other])).backward()
        optimizer.step()


def mixed(model, images, labels, *, first):
    weight = random.gauss(0, 1) * torch.rand(()).item() if first == "weight" else 1.0
    other = torch.randperm(len(images))
    weight = weight if first == "weight" else random.gauss(0, 1) * torch.rand(()).item()
    outputs = model(weight * images + (1 - weight) * images[other])
    return weight * F.cross_entropy(outputs, labels) + (1 - weight) * F.cross_entropy(outputs, labels[other])


def weight_first(model, images, labels):
    return mixed(model, images, labels, first="weight")


def order_first(model, images, labels):
    return mixed(model, images, labels, first="order")


def test_a_variable_has_the_value_of_the_step():
    """The loop is right with the variable as it was at each step, and wrong without it."""
    found = verify(scaled, options=SHORT, objective=of_temperature)
    assert "objective-differs" in found.held
    assert verify(scaled, options=SHORT, objective=of_nothing_else).primary == "objective-differs"


def test_a_variable_may_have_another_precision():
    """A module of the loop's is handed over in float64, as it was when the gradient was computed."""

    def learns_both(model, loader, loss_fn, optimizer):
        model.train()
        adapter = nn.Linear(10, 10).to(next(model.parameters()))
        own = torch.optim.SGD(adapter.parameters(), lr=0.5)
        for x, y in loader:
            optimizer.zero_grad()
            own.zero_grad()
            loss_fn(adapter(model(x)), y).backward()
            own.step()
            optimizer.step()

    def adapted(model, images, labels, adapter):
        return F.cross_entropy(adapter(model(images)), labels)

    found = verify(learns_both, options=SHORT, objective=adapted)
    assert "objective-differs" in found.held, str(found)


def test_other_random_numbers_are_not_compared():
    """Numbers that are drawn in another order are no bug, and the verdict says that nothing was compared."""
    assert "objective-differs" in verify(in_reverse, options=SHORT, objective=order_first).held
    found = verify(in_reverse, options=SHORT, objective=weight_first)
    assert not found.bugs
    assert any("cannot be compared: it hands the model other inputs than the loop" in note for note in found.remarks)
    assert "cannot be compared" in str(found)


def raises(model, images, labels):
    raise ValueError("no\nloss")


REFUSED = {
    "too few": (lambda model, images: model(images).sum(), r"<lambda>\(model, images\) found as the objective"),
    "no signature": (dict.fromkeys, "found as the objective, expected objective"),
    "a variable that is not there": (
        lambda model, images, labels, teacher: teacher(images),
        "takes teacher, and the loop has no variable of this name when it calls backward",
    ),
    "raises": (raises, r"raises raises ValueError \(no loss\), expected an objective that returns the loss"),
    "returns text": (lambda model, images, labels: "loss", "returns an object of type str, expected the loss of the"),
    "returns losses": (
        lambda model, images, labels: F.cross_entropy(model(images), labels, reduction="none"),
        r"returns a tensor of shape \(4,\), expected the loss of the batch, a tensor of one number with a graph",
    ),
    "has no graph": (
        lambda model, images, labels: model(images).sum().detach(),
        r"returns a tensor of shape \(\) without a graph, expected the loss",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_objective_that_does_not_fit_is_refused(case):
    """The sentence says what was found and what is expected."""
    objective, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        verify(scaled, options=SHORT, objective=objective)


def test_a_text_names_a_function_beside_the_loop():
    """The name is looked up in the module of the loop."""
    spec = "tests.verification.test_objective:scaled"
    assert "objective-differs" in verify(spec, options=SHORT, objective="of_temperature").held
