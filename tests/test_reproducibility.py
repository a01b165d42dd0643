"""Reproducibility: the same seed gives the same bits on the CPU, interrupted or not, and the same values on CUDA."""

import tempfile
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

from tests.cases import probe_cases


def train(loop, case, device="cpu"):
    """Train a model with Dropout on shuffled data, all from the case's seed."""
    model = case.probe(device)
    torch.manual_seed(case.seed)
    loader = DataLoader(case.dataset(), case.batch_size, shuffle=True)
    history = loop.fit(model, loader, loader, nn.CrossEntropyLoss(), case.make_optimizer(model), device, case.epochs)
    return model.state_dict(), history


@given(case=probe_cases)
def test_the_same_seed_gives_the_same_bits(loop, case):
    """Two trainings from one seed end in bitwise the same parameters, buffers and history (CPU)."""
    (first, first_history), (second, second_history) = train(loop, case), train(loop, case)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert first_history == second_history


@given(case=probe_cases, before=st.integers(0, 2))
def test_saved_and_resumed_is_uninterrupted(loop, checkpoints, case, before):
    """Train, save, load into new objects, train on: bitwise the parameters and history of one training throughout.

    The model has Dropout and BatchNorm, the optimizer may have momentum, the data are shuffled: all of their states
    must come through the file.
    """
    after = case.epochs

    def start():
        model = case.probe()
        torch.manual_seed(case.seed)
        return model, case.make_optimizer(model), DataLoader(case.dataset(), case.batch_size, shuffle=True)

    def fit(model, optimizer, loader, epochs, first_epoch=1):
        loss_fn = nn.CrossEntropyLoss()
        return loop.fit(model, loader, loader, loss_fn, optimizer, "cpu", epochs, first_epoch=first_epoch)

    model, optimizer, loader = start()
    expected_history = fit(model, optimizer, loader, before + after)
    expected = model.state_dict()

    model, optimizer, loader = start()
    history = fit(model, optimizer, loader, before)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.pt"
        checkpoints.Checkpoint.capture(model, optimizer, history, {"seed": case.seed}).save(file)
        model, optimizer, loader = start()
        torch.rand(5)  # whatever happens between the two
        checkpoint = checkpoints.Checkpoint.load(file)
    checkpoint.restore(model, optimizer)
    assert checkpoint.settings == {"seed": case.seed}
    assert checkpoint.history == history
    resumed = fit(model, optimizer, loader, before + after, first_epoch=before + 1)
    assert history + resumed == expected_history, "the history of the resumed training is another"
    torch.testing.assert_close(model.state_dict(), expected, rtol=0, atol=0)


@given(case=probe_cases)
def test_a_checkpoint_is_a_copy(loop, checkpoints, case):
    """Training on changes nothing in a checkpoint that was taken before."""
    model = case.probe()
    optimizer = case.make_optimizer(model)
    loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, "cpu")
    then = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint = checkpoints.Checkpoint.capture(model, optimizer, [], {})
    loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, "cpu")
    torch.testing.assert_close(checkpoint.model, then, rtol=0, atol=0, msg="the checkpoint changed with the model")
