"""Reproducibility, beyond the laws: a training that is saved and resumed has the history of one that was not."""

import tempfile
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

from tests.cases import probe_cases


@given(case=probe_cases, before=st.integers(0, 2))
def test_saved_and_resumed_is_uninterrupted(loop, checkpoints, case, before):
    """Train, save, load into new objects, train on: bitwise the parameters and history of one training throughout.

    The model has Dropout and BatchNorm, the optimizer may have momentum, the data are shuffled: all of their states
    must come through the file. The law resume-incomplete is of epochs one by one, saved once, in the middle; here `fit`
    goes on at any epoch, and the history and the settings come through the file too.
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
