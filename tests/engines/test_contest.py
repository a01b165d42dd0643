"""The trial that decides whether compiled steps are needed."""

import itertools
from functools import partial

import pytest
import torch

from mnist_loop.engines import contest, native, products


@pytest.fixture(autouse=True)
def forget(no_leak):
    """What was measured before, and what is measured here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    contest.native_is_faster.cache_clear()
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    contest.native_is_faster.cache_clear()


@pytest.fixture
def clock(monkeypatch):
    """Let each product and making floats take a second, and steps of native as many as are set, each."""
    seconds = {"native": 1.0, "native trials": 0}

    def take(work, *_):
        if isinstance(work, partial) and work.func is native.train_one_epoch:
            work()
            assert torch.get_num_threads() == 1
            seconds["native trials"] += 1
            return seconds["native"] * len(work.args[1])
        return 1.0

    monkeypatch.setattr(contest.trials, "seconds", take)
    return seconds


@pytest.mark.parametrize(("seconds", "faster"), [(6.5, True), (6.7, False)])
def test_native_has_to_be_as_fast_as_the_products(clock, seconds, faster):
    """Of a step of two layers: five, and the making of floats; and a tenth."""
    clock["native"] = seconds
    assert contest.native_is_faster((6, 5, 3), 4, 0.0) is faster


def test_each_net_is_tried_once(clock):
    """And with another momentum it is another net; on one thread, whatever their number is."""
    contest.native_is_faster((6, 5, 3), 2000, 0.9)
    trials = clock["native trials"]
    assert trials >= contest.FEWEST_ROUNDS
    contest.native_is_faster((6, 5, 3), 2000, 0.9)
    assert clock["native trials"] == trials
    contest.native_is_faster((6, 5, 3), 2000, 0.0)
    assert clock["native trials"] > trials


def test_the_products_are_those_of_a_step():
    """Forward, of the weights' gradients, and of the gradients between layers."""
    widths, images = (6, 5, 4, 3), 7
    sizes = [tuple(product().shape) for product in products.of_step(widths, images)]
    expected = []
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        expected += [(images, outputs), (outputs, inputs), *([(images, inputs)] if layer else [])]
    assert sizes == expected
