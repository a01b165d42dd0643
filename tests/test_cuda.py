"""CUDA: where there is a device, every law runs on it too (see the `device` fixture); here are those of CUDA alone."""

import pytest
import torch
from hypothesis import given
from torch import nn

from tests import oracle
from tests.cases import stepping_cases

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device on this machine: the laws ran on the CPU alone"
)


@given(case=stepping_cases)
def test_cpu_and_cuda_agree(loop, case):
    """In float64, a training on CUDA ends in the parameters of the same training on the CPU, up to rounding."""
    ends = {}
    for device in ("cpu", "cuda"):
        model = case.model(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=case.lr, momentum=0.9)
        for _ in range(case.epochs):
            loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, device)
        ends[device] = model.state_dict()
    for name, expected in ends["cpu"].items():
        oracle.assert_equal(ends["cuda"][name], expected, f"on CUDA, {name}", oracle.TRAINING_ROUNDING)


def test_no_step_synchronises(loop, models):
    """With pinned batches, training waits for the device once: at the end, for the loss."""
    with torch.random.fork_rng():
        model = models.MLP(8, 4, 3).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def batches():
        pinned = [(torch.zeros(2, 8).pin_memory(), torch.zeros(2, dtype=torch.long).pin_memory()) for _ in range(10)]
        torch.cuda.set_sync_debug_mode("error")
        yield from pinned
        torch.cuda.set_sync_debug_mode("default")

    try:
        loop.train_one_epoch(model, batches(), nn.CrossEntropyLoss(), optimizer, "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_batches_lie_in_pinned_memory(loading, digits):
    """For CUDA the loaders' batches are pinned, so that their copy to the device need not be waited for."""
    for loader in loading.make_loaders(digits, device="cuda"):
        images, labels = next(iter(loader))
        assert images.is_pinned()
        assert labels.is_pinned()
