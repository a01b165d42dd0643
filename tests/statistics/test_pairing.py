"""Rounds: what two palindromic visits to each arm say of their ratio."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_loop.statistics.pairing import Block, generations, rounds

ARMS = 3


def blocks_of(orders, seconds, images=64, batch_size=64, run=1, generation=0, start=0.0):
    """Make the blocks of one generation: each round visits the arms in its order, and then backwards."""
    made = []
    for number, order in enumerate(orders):
        for arm in (*order, *reversed(order)):
            took = seconds(arm, start)
            made.append(Block(arm, batch_size, run, generation, number, start, took, images))
            start += took
    return made


def test_a_drift_that_is_exponential_in_the_number_of_the_block_cancels():
    """A B C C B A: each arm's two blocks have the same mean place, and so the same mean log of any such drift."""
    made = blocks_of([(0, 1, 2), (2, 0, 1)], lambda arm, start: 1.0)
    drifting = [
        Block(**{**vars(block), "seconds": (1 + 0.1 * block.arm) * 1.07**place}) for place, block in enumerate(made)
    ]
    for one in rounds(drifting, ARMS):
        for arm in range(ARMS):
            assert one.log_ratio(arm) == pytest.approx(math.log(1 + 0.1 * arm), abs=1e-12)


@given(missing=st.integers(0, 11), rate=st.floats(1e-6, 1e3))
def test_a_round_that_was_cut_short_is_left_out(missing, rate):
    """Without one of its blocks a round says nothing; the others still do."""
    made = blocks_of([(0, 1, 2), (1, 2, 0)], lambda arm, start: rate)
    assert len(rounds(made, ARMS)) == 2
    assert [one.start for one in rounds(made[:missing] + made[missing + 1 :], ARMS)] == [
        made[6].start if missing < 6 else made[0].start
    ]


def test_arms_with_other_batch_sizes_are_compared_by_image():
    """Twice the time for twice the images is no difference."""
    made = [Block(**{**vars(block), "images": 64 * (1 + block.arm), "seconds": 0.5 * (1 + block.arm)})
            for block in blocks_of([(0, 1, 2)], lambda arm, start: 1.0)]  # fmt: skip
    (one,) = rounds(made, ARMS)
    assert [one.log_ratio(arm) for arm in range(ARMS)] == pytest.approx([0, 0, 0], abs=1e-12)


def test_generations_are_kept_apart():
    """By run, batch size and restart, whatever the order of the blocks."""
    made = [
        *blocks_of([(0, 1, 2)] * 2, lambda arm, start: 1 + arm, generation=4, start=5.0),
        *blocks_of([(0, 1, 2)] * 3, lambda arm, start: 2 + arm, generation=1, start=1.0),
        *blocks_of([(0, 1, 2)], lambda arm, start: 1, generation=2, run=2),
        *blocks_of([(0, 1, 2)], lambda arm, start: 1, generation=3, batch_size=16),
    ]
    found = rounds(made, ARMS)
    assert generations(found, 1, 64, 1) == [[pytest.approx(math.log(1.5))] * 3, [pytest.approx(math.log(2))] * 2]
    assert generations(found, 2, 64, 2) == generations(found, 2, 16, 1) == [[0.0]]
    assert generations(found, 1, 256, 1) == []
