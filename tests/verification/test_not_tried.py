"""A loop that raises even in the plainest case was not tried: that is told, and is no bug of the loop."""

import pytest

from mnist_loop.errors import UserError
from mnist_loop.verification.options import Options
from mnist_loop.verification.verify import verify

SHORT = Options(fixed_cases=2, random_cases=0)


def takes_dicts(model, train_loader, loss_fn, optimizer):
    """Train on batches that are dicts."""
    for batch in train_loader:
        optimizer.zero_grad()
        loss_fn(model(batch["image"]), batch["label"]).backward()
        optimizer.step()


class TakesDicts:
    """The same as a class."""

    def __init__(self, model, criterion):
        self.model, self.criterion = model, criterion

    def fit(self, train_loader, optimizer):
        takes_dicts(self.model, train_loader, self.criterion, optimizer)


def steps(model, train_loader, loss_fn, optimizer):
    """Train as one should."""
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()


def measures_elsewhere(model, test_loader):
    """Evaluate a model of another kind."""
    for images, _ in test_loader:
        model(images).last_hidden_state.mean()


def in_single_precision(model, train_loader, loss_fn, optimizer):
    """Train as one should, in float32 alone."""
    for images, labels in train_loader:
        assert images.dtype.itemsize == 4, "float32 alone"
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("loop", "adapter"),
    [
        (takes_dicts, "    def adapter(model, train_loader, loss_fn, optimizer):\n"),
        (TakesDicts, "TakesDicts(model=model, criterion=loss_fn).fit(train_loader=train_loader, optimizer=optimizer)"),
    ],
)
def test_a_loop_that_raises_in_the_plainest_case_was_not_tried(loop, adapter):
    """The error, its line, and what to do: declare, adapt, or check the program."""
    with pytest.raises(UserError) as refused:
        verify(loop, options=SHORT)
    told = str(refused.value)
    assert "takes_dicts was not tried: " in told or "TakesDicts.fit was not tried: " in told
    assert "raised TypeError: " in told or "raised IndexError: " in told
    assert 'test_not_tried.py:16: loss_fn(model(batch["image"]), batch["label"]).backward()' in told
    assert "--declare" in told
    assert "mnist-loop check test_not_tried.py" in told
    assert adapter in told


def test_an_evaluation_that_raises_in_the_plainest_case_was_not_tried():
    """The sentence names it, and the way to do without."""
    with pytest.raises(UserError, match=r"measures_elsewhere to fit: name another with --evaluate SPEC, or --eval"):
        verify(steps, measures_elsewhere, SHORT)


def test_the_laws_that_are_asked_for_do_not_change_whether_it_was_tried():
    """With --only, too."""
    only = Options(fixed_cases=2, random_cases=0, laws=("zero-grad-missing",))
    with pytest.raises(UserError, match="takes_dicts was not tried"):
        verify(takes_dicts, options=only)
    verdict = verify(in_single_precision, options=only)
    assert list(verdict.held) == ["zero-grad-missing"]


def test_a_message_of_50_megabytes_is_told_in_part():
    """By as much as a terminal can show."""

    def raises(model, train_loader, loss_fn, optimizer):
        raise ValueError("x" * 50_000_000)

    with pytest.raises(UserError, match="training raised ValueError: xxx") as caught:
        verify(raises, options=SHORT)
    assert len(str(caught.value)) < 5000
