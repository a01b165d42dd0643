"""What the loop asks of devices that may not be here: copies on CUDA, sums on MPS, generators on both."""

from contextlib import nullcontext
from dataclasses import FrozenInstanceError

import pytest
import torch


class Recorder:
    """Takes any call and remembers its arguments."""

    def __init__(self, result=None):
        self.calls = []
        self.result = result

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        return self.result

    to = __call__  # a tensor's method


@pytest.mark.parametrize(
    ("device", "non_blocking"), [("cpu", False), ("cuda", True), ("cuda:1", True), ("mps", False), ("xpu", False)]
)
def test_only_cuda_copies_without_waiting(loop, device, non_blocking):
    """From pinned memory a copy to CUDA is not waited for; on other devices it is, for nothing else orders it."""
    tensor = Recorder()
    loop.to_device(tensor, device)
    assert tensor.calls == [((device,), {"non_blocking": non_blocking})]


@pytest.mark.parametrize(
    ("device", "dtype"),
    [("cpu", torch.float64), ("cuda", torch.float64), ("mps", torch.float32), ("xpu", torch.float64)],
)
def test_sums_are_float64_where_there_is_float64(loop, monkeypatch, device, dtype):
    """Losses are summed in float64 on the device itself, but on MPS, which has no float64."""
    zeros = Recorder()
    monkeypatch.setattr(torch, "zeros", zeros)
    loop.zero(device)
    assert zeros.calls == [(((),), {"dtype": dtype, "device": device})]


@pytest.mark.parametrize(
    ("device", "forked"),
    [("cpu", []), ("cuda", [torch.device("cuda")]), ("cuda:1", [torch.device("cuda:1")]), ("mps", []), ("xpu", [])],
)
def test_evaluation_forks_the_generators_that_it_uses(loop, monkeypatch, device, forked):
    """Beside the CPU's generator it is that of the CUDA device in use, and no other GPU is woken up."""
    fork = Recorder(nullcontext())
    monkeypatch.setattr(torch.random, "fork_rng", fork)
    loop._same_randomness(device)
    assert fork.calls == [((), {"devices": forked})]


def test_results_cannot_be_changed(loop):
    """A history is a record: its lines are frozen."""
    with pytest.raises(FrozenInstanceError):
        loop.Epoch(1, 0.5, 0.4, 0.9).test_accuracy = 1.0
    with pytest.raises(FrozenInstanceError):
        loop.Evaluation(0.4, 0.9).accuracy = 1.0
