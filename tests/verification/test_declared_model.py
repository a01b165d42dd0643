"""A model that is declared and cannot be made, or has no such part, is told before anything is tried."""

from __future__ import annotations

import pytest
from torch import nn

from mnist_loop.errors import UserError
from mnist_loop.verification.child import answer_for
from tests.loops.correct.plain import train_one_epoch


def takes(a, b):
    return nn.Linear(a, b)


def raises():
    raise ValueError("no\nmodel " + 1_000_000 * "x")


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


REFUSED = {
    "takes arguments": ({"model": takes}, r"the function declared as model raises TypeError \(takes\(\) missing 2 req"),
    "raises": ({"model": raises}, r"the function declared as model raises ValueError \(no model x{1,200}\), expected"),
    "returns None": ({"model": lambda: None}, "the function declared as model returns NoneType, expected one that ret"),
    "returns a class": ({"model": lambda: nn.Linear}, "the function declared as model returns type, expected one"),
    "no such part": (
        {"frozen": "nope"},
        "frozen=nope found, which is no part of the model, expected one such as",
    ),
    "no such part of it": (
        {"model": small, "frozen": ["1", "hidden"]},
        "frozen=hidden found, which is no part of the model, expected one such as 0, 1, 1.bias, 1.weight",
    ),
}


@pytest.mark.parametrize(("declared", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_one_sentence(declared, message):
    """It says what was found, and what was expected."""
    with pytest.raises(UserError, match=message) as caught:
        answer_for(train_one_epoch, None, declared)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "declared", [{"frozen": "hid"}, {"frozen": ["hidden.0", "head"]}, {"model": small, "frozen": "1"}]
)
def test_what_is_there_is_taken(declared):
    """By its name, or the beginning of it."""
    assert answer_for(train_one_epoch, None, declared)
