"""The plan that evaluations follow in the case for early stopping."""

import operator

import pytest
import torch

from mnist_loop.verification.binding.intentions import DEFAULT, MOST_PATIENCE
from mnist_loop.verification.cases import staged
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.cases.world import make_data, make_model


def stop(plan, patience, compare, *, resets):
    """Return after how many epochs a loop stops that follows the plan."""
    best, count = 0.0, 0
    for number, accuracy in enumerate(plan, 1):
        better = accuracy > best
        best, count = max(best, accuracy), 0 if better and resets else count + (not better)
        if compare(count, patience):
            return number
    return None


@pytest.mark.parametrize("patience", range(1, MOST_PATIENCE + 1))
def test_right_early_stopping_stops_a_patience_after_the_last_improvement(patience):
    """Both usual comparisons do so; without the reset they stop before that, if there is a difference at all."""
    plan = staged.plan(patience)
    for compare, more in ((operator.ge, 0), (operator.gt, 1)):
        right, wrong = (stop(plan, patience, compare, resets=resets) for resets in (True, False))
        assert staged.stale(plan[:right]) == patience + more
        assert wrong is not None
        assert patience == 1 or staged.stale(plan[:wrong]) < patience


@pytest.mark.parametrize("loss", ["cross-entropy", "nll"])
def test_the_accuracy_is_that_of_the_plan(loss):
    """After each epoch of training, however often the model is evaluated then."""
    case = Case(patience=2, held_out=40, loss=loss)
    model = make_model(case, DEFAULT)
    images, labels = make_data(case, DEFAULT, "val")
    for accuracy in staged.plan(2):
        model.train()(images[:4])
        model.eval()
        for _ in range(2):
            outputs = model(images)
            found = (outputs.argmax(dim=1) == labels).double().mean()
            assert abs(float(found) - accuracy) < 1 / 39
        if loss == "nll":
            assert torch.allclose(outputs.logsumexp(dim=1), torch.zeros(40, dtype=outputs.dtype), atol=1e-12)
