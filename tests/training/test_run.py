"""Sessions: the lesson's lines, losses that are watched, and checkpoints that fit or are refused."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from mnist_loop.errors import CheckpointError
from mnist_loop.support.progress import Counted
from mnist_loop.training.checkpoint import Checkpoint
from mnist_loop.training.run import LossNotFinite, TrainingRun, TrainingSettings

SETTINGS = TrainingSettings(batch_size=1, lr=0.01, seed=0, data="made up", device="cpu", threads=1, torch="2")


@pytest.fixture(autouse=True)
def generators(no_leak):
    """A run seeds torch's generators, and the command line puts them back: here the test does."""
    with torch.random.fork_rng():
        yield


class Recorder:
    """A progress that remembers what it was told."""

    def __init__(self):
        self.lines, self.total, self.batches = [], None, 0

    def line(self, text):
        self.lines.append(text)

    def status(self, text, total=None):
        self.total, self.batches = total, 0

    def advance(self):
        self.batches += 1

    def counted(self, loader):
        return Counted(loader, self)


def new_run(train=8, test=2, save_to=None, **changes):
    """Return a run on made-up data of one class to each pixel."""
    images = torch.eye(784).reshape(784, 1, 28, 28)
    labels = torch.arange(784) % 10
    data = SimpleNamespace(
        train=TensorDataset(images[:train], labels[:train]), test=TensorDataset(images[:test], labels[:test])
    )
    return TrainingRun(replace(SETTINGS, **changes), data, torch.device("cpu"), save_to=save_to)


@settings(max_examples=12)
@given(batches=st.integers(1, 250) | st.sampled_from([1, 100, 101, 201]), epochs=st.integers(1, 2))
def test_a_line_every_hundred_batches(batches, epochs):
    """Batches 0, 100, 200 and so on of each epoch, and one line at its end; however many batches there are."""
    recorder, run = Recorder(), new_run(train=batches)
    run.train(epochs, recorder)
    expected = []
    for epoch in range(1, epochs + 1):
        expected += [f"Epoch: {epoch}/{epochs} | Batch: {batch}/{batches} | Loss: " for batch in range(0, batches, 100)]
        expected += [f"Epoch: {epoch}/{epochs} | Train loss: "]
    assert len(recorder.lines) == len(expected)
    for line, start in zip(recorder.lines, expected, strict=True):
        assert line.startswith(start)


def test_the_loss_of_a_line_is_that_of_its_batch():
    """Each loss is that which the loop reported for the batch that the line names."""
    recorder, run = Recorder(), new_run(train=250)
    losses, loss_fn = [], run.loss_fn

    def remembered(outputs, labels):
        loss = loss_fn(outputs, labels)
        if loss.requires_grad:  # not while it is evaluated
            losses.append(loss.item())
        return loss

    run.loss_fn = remembered
    run.train(1, recorder)
    assert recorder.lines[:3] == [
        f"Epoch: 1/1 | Batch: {batch}/250 | Loss: {losses[batch]:.4f}" for batch in (0, 100, 200)
    ]


@settings(max_examples=12)
@given(
    at=st.integers(0, 149) | st.sampled_from([0, 99, 100, 101, 149]),
    epoch=st.integers(1, 2),
    value=st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_the_first_batch_whose_loss_is_not_finite_is_named(at, epoch, value):
    """Wherever it is, the run stops, says which batch it was, and the epochs before it are kept."""
    run = new_run(train=150)
    loss_fn, calls = run.loss_fn, iter(range(10**6))

    def broken(outputs, labels):
        loss = loss_fn(outputs, labels)
        return loss + value if loss.requires_grad and next(calls) == (epoch - 1) * 150 + at else loss

    run.loss_fn = broken
    with pytest.raises(LossNotFinite, match=f"^the loss is -?(inf|nan) at batch {at} of epoch {epoch}$"):
        run.train(3, Recorder())
    assert [line.epoch for line in run.history] == list(range(1, epoch))


def test_a_test_loss_that_is_not_finite_is_no_result(tmp_path):
    """The last step of an epoch broke the parameters: that shows in the test loss alone, and is not saved."""
    run = new_run(train=8, batch_size=8, save_to=tmp_path / "run.pt")
    run.save()
    run.optimizer.param_groups[0]["lr"] = math.inf
    with pytest.raises(LossNotFinite, match=r"^the test loss is nan after epoch 1$"):
        run.train(1, Recorder())
    assert run.history == []
    loaded = Checkpoint.load(tmp_path / "run.pt")
    assert loaded.history == []
    assert all(value.isfinite().all() for value in loaded.model.values())


@settings(max_examples=10)
@given(done=st.integers(0, 2), more=st.integers(0, 2), batch_size=st.integers(1, 9))
def test_the_total_is_what_is_still_to_do(done, more, batch_size):
    """The bar starts at the batches that are left, of training and testing, and ends full, resumed or not."""
    run, recorder = new_run(batch_size=batch_size), Recorder()
    run.train(done, recorder)
    run.train(done + more, recorder)
    assert recorder.batches == recorder.total == more * (math.ceil(8 / batch_size) + math.ceil(2 / batch_size))


def test_a_checkpoint_is_there_after_each_epoch(tmp_path):
    """Before the line of an epoch is printed, its checkpoint is on disk: who reads the line may stop the run."""
    file = tmp_path / "run.pt"
    run, recorder = new_run(save_to=file), Recorder()
    seen = []

    def line(text):
        if "Test accuracy" in text:
            seen.append((len(Checkpoint.load(file).history), run.saved))

    recorder.line = line
    assert run.saved is None
    run.save()
    assert run.saved == 0
    run.train(3, recorder)
    assert seen == [(1, 1), (2, 2), (3, 3)]


def test_an_epoch_is_kept_where_its_checkpoint_cannot_be_written(tmp_path):
    """What was finished stays in the history; what was saved last is known."""
    folder = tmp_path / "folder"
    folder.mkdir()
    run = new_run(save_to=folder / "run.pt")
    run.save()
    (folder / "run.pt").unlink()
    folder.rmdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        run.train(3, Recorder())
    assert [epoch.epoch for epoch in run.history] == [1]
    assert run.saved == 0


def test_without_a_file_nothing_is_saved(tmp_path, monkeypatch):
    """Nobody asked for a checkpoint: there is none."""
    monkeypatch.chdir(tmp_path)
    run = new_run()
    run.save()
    run.train(1, Recorder())
    assert run.saved is None
    assert list(Path().iterdir()) == []


def checkpoint_of(run):
    return Checkpoint.capture(run.model, run.optimizer, run.history, vars(run.settings))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("batch_size", 2, "batch size 1, not 2"),
        ("lr", 0.1, "lr 0.01, not 0.1"),
        ("seed", 1, "seed 0, not 1"),
        ("data", "other", "data made up, not other"),
    ],
)
def test_other_settings_are_refused(name, value, words):
    """A setting that decides the result must be that of the checkpoint; nothing is restored before that is known."""
    other = new_run(**{name: value})
    before = {key: tensor.clone() for key, tensor in other.model.state_dict().items()}
    trained = new_run()
    trained.train(1, Recorder())
    with pytest.raises(CheckpointError) as refused:
        other.resume(checkpoint_of(trained))
    assert str(refused.value) == f"the checkpoint was trained with {words}: go on with that, or start anew"
    torch.testing.assert_close(dict(other.model.state_dict()), before, rtol=0, atol=0)
    assert other.history == []


def test_a_checkpoint_without_settings_is_refused():
    """What is not known cannot be equal."""
    checkpoint = checkpoint_of(new_run())
    checkpoint.settings = {}
    with pytest.raises(CheckpointError, match="not 1: go on with that, or start anew"):
        new_run().resume(checkpoint)


@pytest.mark.parametrize("change", [{"threads": 2}, {"device": "cuda"}, {"torch": "3"}])
def test_another_machine_is_accepted(change):
    """These change the last bits of the result, not its meaning."""
    trained = new_run(**change)
    trained.train(1, Recorder())
    resumed = new_run()
    resumed.resume(checkpoint_of(trained))
    assert resumed.history == trained.history


def test_the_seed_decides_the_weights():
    """The same seed gives the same weights, whatever was drawn before; another seed, others."""
    first = new_run().model.fc1.weight
    torch.rand(7)
    assert torch.equal(first, new_run().model.fc1.weight)
    assert not torch.equal(first, new_run(seed=1).model.fc1.weight)
