"""What a loop returns: the numbers in it by where they stand, and the state of a model, whatever it is wrapped in."""

import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mnist_loop.verification.recording.returned import DEEPEST, MOST, read_returned

Scores = namedtuple("Scores", ["loss", "accuracy"])  # as people write it


@dataclass
class Report:
    """As `mnist_loop.loop.Epoch` is."""

    epoch: int
    loss: float
    name: str = "test"


def read(returned, yielded=()):
    return read_returned(returned, list(yielded))


@pytest.mark.parametrize(
    ("returned", "numbers"),
    [
        (None, {}),
        (0.5, {"the result": 0.5}),
        (3, {"the result": 3.0}),
        (torch.tensor(0.5), {"the result": 0.5}),
        (torch.tensor([[0.5]], requires_grad=True), {"the result": 0.5}),
        (np.float32(0.5), {"the result": 0.5}),
        (np.array([7]), {"the result": 7.0}),
        ((0.5, 0.9), {"[0]": 0.5, "[1]": 0.9}),
        ([0.5, [0.6, 0.7]], {"[0]": 0.5, "[1][0]": 0.6, "[1][1]": 0.7}),
        ({"loss": 0.5, "acc": torch.tensor(0.9)}, {"['loss']": 0.5, "['acc']": pytest.approx(0.9)}),
        ({"train": {"loss": [1.0]}, 3: 4}, {"['train']['loss'][0]": 1.0, "[3]": 4.0}),
        (Scores(0.5, 0.9), {".loss": 0.5, ".accuracy": 0.9}),
        (Report(1, 0.5), {".epoch": 1.0, ".loss": 0.5}),
        ([Report(1, 0.5), Report(2, 0.4)], {"[0].epoch": 1.0, "[0].loss": 0.5, "[1].epoch": 2.0, "[1].loss": 0.4}),
    ],
    ids=repr,
)
def test_numbers_are_found_where_they_stand(returned, numbers):
    """In tensors and arrays of one element, containers, named tuples and data classes."""
    result = read(returned)
    assert result.numbers == numbers
    assert result.kind == type(returned).__name__
    assert result.state is None


@pytest.mark.parametrize(
    "returned",
    ["0.5", b"1", True, object(), Report, torch.zeros(2), np.zeros(3), torch.tensor(1j), {"name": "x", "on": False}],
    ids=lambda value: type(value).__name__,  # xdist compares the names of its processes
)
def test_what_is_no_number_is_left_out(returned):
    """Texts, switches, classes and tensors of several elements report nothing."""
    assert read(returned).numbers == {}


@given(value=st.floats())
def test_a_number_is_read_as_it_is(value):
    """NaN and infinity too: a loss may be either."""
    (found,) = read([value]).numbers.values()
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_what_a_generator_yields_is_read_in_order():
    """With its number before the place in what was yielded."""
    assert read(None, [0.5, {"loss": 0.4}, "text"]).numbers == {"yielded[0]": 0.5, "yielded[1]['loss']": 0.4}


def test_a_value_that_contains_itself_is_read_so_far():
    """Containers are followed some levels down, `DEEPEST` at most, and the reading ends."""
    endless = [1.0]
    endless.append(endless)
    assert 4 <= len(read(endless).numbers) <= DEEPEST


def test_a_long_history_is_read_so_far():
    """At most `MOST` numbers: a list of all outputs is no report."""
    numbers = read([0.5] * (MOST + 10)).numbers
    assert len(numbers) == MOST
    assert f"[{MOST - 1}]" in numbers


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model,
        lambda model: model.state_dict(),
        lambda model: (model, [0.5]),
        lambda model: [0.5, model.state_dict()],
        lambda model: {"best": model, "loss": 0.5},
        lambda model: {"loss": 0.5, "state": OrderedDict(model.state_dict())},
        lambda model: torch.optim.swa_utils.AveragedModel(model),
        lambda model: torch.optim.swa_utils.AveragedModel(model).state_dict(),
    ],
)
def test_the_state_of_a_model_is_found(wrap):
    """Parameters and buffers by the model's own names: of a model, its state, in a container, averaged or wrapped."""
    model = nn.Sequential(nn.utils.skip_init(nn.Linear, 2, 3), nn.BatchNorm1d(3))
    state = read(wrap(model)).state
    assert set(state) == set(model.state_dict())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_the_state_that_was_read_does_not_move():
    """It is a copy: what the loop does to its model later is not in it."""
    model = nn.BatchNorm1d(3)
    state = read(model).state
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1)
    assert torch.equal(state["weight"], before)
    assert not state["weight"].requires_grad


@pytest.mark.parametrize("returned", [{}, {"loss": 0.5}, [], (0.5, 1), None], ids=repr)
def test_what_holds_no_state_has_none(returned):
    """Metrics by name are no state."""
    assert read(returned).state is None
