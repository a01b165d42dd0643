"""Checkpoints as files: what was saved is loaded, whole or not at all; what is damaged or foreign is refused.

That a resumed training equals an uninterrupted one is in properties/test_reproducibility.py and cli/test_train.py.
"""

import errno
import os
import pickle
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mnist_loop.errors import CheckpointError
from mnist_loop.loop import Epoch
from mnist_loop.training.checkpoint import Checkpoint

REFUSAL = "not a checkpoint of this version, or damaged; expected a file that mnist-loop train --save wrote"

numbers = st.floats(allow_nan=False)
histories = st.lists(st.builds(Epoch, st.integers(1, 10**9), numbers, numbers, numbers), max_size=4)
settings = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(0, 2**64 - 1) | numbers | st.text())


@pytest.fixture(autouse=True)
def generators(no_leak):
    """Making a model draws from torch's generators: put them back."""
    with torch.random.fork_rng():
        yield


def small():
    """A model and an optimizer with a state."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def capture(history=(), settings=None):
    return Checkpoint.capture(*small(), list(history), {"seed": 0} if settings is None else settings)


def assert_same(checkpoint, other):
    """Both are equal, bit for bit."""
    assert checkpoint.settings == other.settings
    assert checkpoint.history == other.history
    for part in ("model", "optimizer", "rng"):
        torch.testing.assert_close(getattr(checkpoint, part), getattr(other, part), rtol=0, atol=0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint, and the bytes of its file."""
    file = tmp_path_factory.mktemp("saved") / "run.pt"
    with torch.random.fork_rng():
        checkpoint = capture([Epoch(1, 0.5, 0.4, 0.9)])
    checkpoint.save(file)
    return checkpoint, file.read_bytes()


def load(content):
    """Load a file with ``content``."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.pt"
        file.write_bytes(content)
        return Checkpoint.load(file)


@given(history=histories, settings=settings)
def test_loaded_is_saved(history, settings):
    """Settings, history, model, optimizer and generators come back as they were, bit for bit."""
    checkpoint = capture(history, settings)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.pt"
        checkpoint.save(file)
        assert_same(Checkpoint.load(file), checkpoint)
        assert [path.name for path in Path(folder).iterdir()] == ["run.pt"]


@given(data=st.data())
def test_a_truncated_file_is_refused(saved, data):
    """Wherever it is cut, nothing of it is taken."""
    _, content = saved
    with pytest.raises(CheckpointError, match=REFUSAL):
        load(content[: data.draw(st.integers(0, len(content) - 1))])


@given(data=st.data())
def test_a_damaged_file_is_never_taken_for_another(saved, data):
    """One byte is changed: the file is refused, or the byte was of no account and the content is the same."""
    checkpoint, content = saved
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        loaded = load(bytes(damaged))
    except CheckpointError as error:
        assert REFUSAL in str(error)  # noqa: PT017  # a test may end either way
    else:
        assert_same(loaded, checkpoint)


def test_a_flipped_bit_in_a_parameter_is_refused(saved):
    """The checksums are looked at: no run goes on from parameters that the disk has changed."""
    checkpoint, content = saved
    weights = checkpoint.model["weight"].numpy().tobytes()
    at = content.index(weights)
    damaged = bytearray(content)
    damaged[at] ^= 1
    with pytest.raises(CheckpointError, match=REFUSAL):
        load(bytes(damaged))


class Evil:
    """Unpickling it without care would make a folder."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def write_zip(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")


def write_pickle(thing):
    return lambda file: file.write_bytes(pickle.dumps(thing))


FOREIGN = {
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("epoch 3\n"),
    "noise": lambda file: file.write_bytes(bytes(range(256)) * 4),
    "zip": write_zip,
    "pickle": write_pickle({"format": "mnist_loop checkpoint 1"}),
    "code in a pickle": write_pickle(Evil()),
    "code in a torch file": lambda file: torch.save({"format": Evil()}, file),
    "state dict": lambda file: torch.save(nn.Linear(2, 2).state_dict(), file),
    "module": lambda file: torch.save(nn.Linear(2, 2), file),
    "tensor": lambda file: torch.save(torch.zeros(3), file),
    "list": lambda file: torch.save([1, 2], file),
    "older torch file": lambda file: torch.save({}, file, _use_new_zipfile_serialization=False),
    "another format": lambda file: torch.save({"format": "mnist_loop checkpoint 0"}, file),
    "without parts": lambda file: torch.save({"format": "mnist_loop checkpoint 1", "history": []}, file),
    "with more parts": lambda file: torch.save({**saved_parts(), "more": 1}, file),
    "broken history": lambda file: torch.save({**saved_parts(), "history": 5}, file),
    "broken epoch": lambda file: torch.save({**saved_parts(), "history": [{"epoch": 1}]}, file),
}


def saved_parts():
    """What a file contains."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.pt"
        capture().save(file)
        return torch.load(file, weights_only=True)


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused(kind, tmp_path, monkeypatch):
    """One sentence with the file's name and what was expected; no code of it runs; it is left as it is."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run.pt"
    FOREIGN[kind](file)
    before = file.read_bytes()
    with pytest.raises(CheckpointError) as refused:
        Checkpoint.load(file)
    assert str(refused.value) == f"{file}: {REFUSAL}"
    assert file.read_bytes() == before
    assert not Path("unpickled").exists()


def test_what_is_saved_here_is_not_refused(tmp_path):
    """The counterpart: the parts that the foreign files change are taken when they are unchanged."""
    torch.save(saved_parts(), tmp_path / "run.pt")
    Checkpoint.load(tmp_path / "run.pt")


@pytest.mark.parametrize(("name", "reason"), [("missing.pt", "No such file or directory"), (".", "Is a directory")])
def test_what_cannot_be_read_is_told(tmp_path, name, reason):
    """The operating system's reason is in the sentence."""
    with pytest.raises(CheckpointError, match=f"cannot be read \\({reason}\\), expected a file that"):
        Checkpoint.load(tmp_path / name)


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    """The disk is full: the file of before is whole, nothing lies beside it, and the sentence says both."""
    file = tmp_path / "run.pt"
    checkpoint = capture([Epoch(1, 0.5, 0.4, 0.9)])
    checkpoint.save(file)
    before = file.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError) as refused:
        checkpoint.save(file)
    assert str(refused.value) == f"{file}: cannot be written (No space left on device); the file there is as it was"
    new = tmp_path / "new.pt"
    with pytest.raises(CheckpointError) as refused:
        checkpoint.save(new)
    assert str(refused.value) == f"{new}: cannot be written (No space left on device)"
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == before


def others():
    """Pairs of another model or optimizer than those of `small`."""
    model, optimizer = small()
    yield nn.Linear(3, 4), optimizer
    yield nn.Sequential(nn.Linear(3, 2)), optimizer
    yield model, torch.optim.SGD([*model.parameters(), torch.zeros(1, requires_grad=True)], lr=0.1)


@pytest.mark.parametrize("which", range(3))
def test_another_model_or_optimizer_is_refused(which):
    """A state that does not fit is one sentence, too."""
    checkpoint = capture()
    with pytest.raises(CheckpointError, match="another model or optimizer than this version trains: start anew"):
        checkpoint.restore(*list(others())[which])


@pytest.mark.parametrize("part", ["optimizer", "rng"])
def test_a_part_that_is_empty_is_refused(part):
    """A checkpoint without an optimizer or without generators cannot be gone on from."""
    checkpoint = capture()
    setattr(checkpoint, part, {})
    with pytest.raises(CheckpointError, match="start anew"):
        checkpoint.restore(*small())
