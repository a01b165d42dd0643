"""CUDA: where there is a device, every law runs on it too (see the `device` fixture); here are those of CUDA alone."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from torch import nn

from mnist_loop.engines import graphed, reference, resident
from mnist_loop.model import MLP
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


@pytest.fixture(scope="module")
def few(digits):
    """133 images: 16 batches of 8, and one of 5."""
    train = copy.copy(digits.train)
    train.data, train.targets = train.data[:133], train.targets[:133]
    return replace(digits, train=train)


class In64(MLP):
    """The MLP in float64, for images of any dtype."""

    def forward(self, images):
        return super().forward(images.double())


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
        lambda parameters: torch.optim.Adam(parameters, lr=1e-3, eps=1e-3, capturable=True),
    ],
    ids=["momentum", "Adam"],
)
def test_captured_steps_train_the_same(few, optimizer):
    """In float64 up to rounding, from the same resident images: captured steps, a smaller last batch, three epochs."""
    ends = []
    for engine in (graphed, reference):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = In64(hidden_size=16).double().cuda()
            loss_fn, its_optimizer = nn.CrossEntropyLoss(), optimizer(model.parameters())
            loader, _ = resident.make_loaders(few, 8, device="cuda")
            engine.prepare(model, loader, loss_fn, its_optimizer, "cuda")
            losses = [engine.train_one_epoch(model, loader, loss_fn, its_optimizer, "cuda") for _ in range(3)]
        ends.append((model.state_dict(), losses))
    (found, losses), (expected, expected_losses) = ends
    for name, value in expected.items():
        oracle.assert_equal(found[name], value, f"on CUDA, {name}", oracle.TRAINING_ROUNDING)
    assert losses == pytest.approx(expected_losses, rel=oracle.TRAINING_ROUNDING)


def test_resident_batches_are_those_of_the_dataloader(few):
    """The same images in the same order, on the device; their values up to a rounding, for CUDA divides by multiplying.

    A pixel is divided by 255 and then moved to -1 to 1, where a rounding of what was near 1 counts twice.
    """
    epochs = []
    for engine in (resident, reference):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            loader, _ = engine.make_loaders(few, 8, device="cuda")
            epochs.append([batch for _ in range(2) for batch in loader])
    for (images, labels), (expected, expected_labels) in zip(*epochs, strict=True):
        assert images.is_cuda
        assert torch.equal(labels.cpu(), expected_labels)
        assert float((images.cpu() - expected).abs().max()) <= 2 * torch.finfo(torch.float32).eps


def test_an_epoch_is_one_graph(digits, monkeypatch):
    """What is left to the CPU of a second epoch is to start it: no step is recorded again."""
    captured = []
    capture = graphed.capture
    monkeypatch.setattr(graphed, "capture", lambda work: captured.append(work) or capture(work))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MLP(hidden_size=16).cuda()
        loss_fn, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.05)
        loader, _ = graphed.make_loaders(digits, 64, device="cuda")
        losses = [graphed.train_one_epoch(model, loader, loss_fn, optimizer, "cuda") for _ in range(3)]
    assert len(captured) == 1
    assert losses[2] < losses[0]
