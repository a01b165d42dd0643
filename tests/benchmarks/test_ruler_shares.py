"""Shares of the ruler: what is timed was checked, and a share is a ratio of rates."""

import torch

from benchmarks import ruler_shares


def test_a_share_is_a_ratio_of_rates():
    """The lesson's step multiplies and adds 204,544 times for an image: 0.5 of a ruler of 818,176 FLOP/s."""
    result = {"machine": "made-up", "torch": "2.15.0", "threads": 1, "engine": "native"}
    result |= {"ruler": {"BLAS": [5e5] * 4, "oneDNN": [818_176.0] * 4}, "rates": {"64": [1.0] * 4, "256": [0.5] * 4}}
    table = ruler_shares.shares_markdown(result)
    assert "| 64 | 1 | 0.50 |\n| 256 | 0.5 | 0.25 |\n" in table
    assert "*made-up; torch 2.15.0; CPU threads: 1; large products: 818 kFLOP/s (oneDNN); " in table


def test_an_engine_is_measured_beside_the_ruler(no_leak):
    """A rate for each round and batch size, and as many of the ruler."""
    with torch.random.fork_rng():
        result = ruler_shares.measured("resident", 2, "digits", sizes=(64, 256))
    assert [len(rates) for rates in result["rates"].values()] == [2, 2]
    assert {len(rates) for rates in result["ruler"].values()} == {4}
    assert all(rate > 0 for kind in ("ruler", "rates") for rates in result[kind].values() for rate in rates)
