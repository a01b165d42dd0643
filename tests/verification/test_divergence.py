"""Values that are not finite: nothing is judged after them, and what made them is still named."""

import pytest
import torch
from torch import nn

from mnist_loop import Case, Options, declare
from mnist_loop.verification.binding.bind import bind
from mnist_loop.verification.recording.divergence import divergence
from mnist_loop.verification.recording.recorder import record
from mnist_loop.verification.verify import verify

# A training at a large scale, which diverges without the clipping that is declared; and one in single precision.
LARGE = Case(loss="mse", scale=30.0, clip=1.0)
SINGLE = Case(lr=1e-9, dtype="float32", scale=1000.0)
CASES = (Case(), Case(loss="mse"), Case(model="probe", epochs=3, optimizer="SGD with momentum"), LARGE, SINGLE)


def trains(times=1.0, lr=None):
    """Make a loop that is right but for a factor of its loss, or its learning rate."""

    def train(model, train_loader, loss_fn, optimizer, device):
        for group in optimizer.param_groups if lr else ():
            group["lr"] = lr
        model.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(images.to(device)), labels.to(device)) * times
            loss.backward()
            optimizer.step()

    return train


def found(loop, **declared):
    """The bugs that are found in the cases."""
    options = Options(cases=CASES, in_process=True)
    return verify(loop, options=options, **declared)


def names(verdict):
    """The diagnoses, each with its consequences."""
    return {diagnosis.id for diagnosis in verdict.diagnoses}


def test_a_training_that_diverges_has_the_bug_that_makes_it_diverge_alone():
    """A loop that does not clip, as it declares, has clip-missing, and is not accused of what overflows afterwards."""
    assert names(found(trains(), clip=1.0)) == {"clip-missing"}


def test_a_learning_rate_that_makes_the_training_diverge_is_no_bug():
    """What a right training does at this rate, this one does."""
    verdict = found(trains(lr=1e6))
    assert not names(verdict)
    assert verdict.held


@pytest.mark.parametrize(
    ("factor", "bug"),
    [(1e30, "loss-scaled"), (float("nan"), "gradient-differs"), (float("inf"), "gradient-differs")],
)
def test_a_loss_that_is_not_finite_is_a_gradient_that_differs(factor, bug):
    """Nothing else is: not the update, not the second run, and no half precision, of which there is none."""
    assert names(found(trains(factor))) == {bug}


def test_what_is_not_judged_is_not_run_with_the_reason():
    """From the first event on whose values are not finite; how the loop treats its data and modes is still judged."""
    verdict = verify(trains(float("nan")), options=Options(cases=(Case(),), in_process=True))
    reason = "the gradient at the outputs is not finite, or its square is not: nothing is judged from there on"
    assert {verdict.not_run[id_] for id_ in ("update-differs", "not-reproducible", "zero-grad-missing")} == {reason}
    assert {"not-shuffled", "batches-repeated", "trains-in-eval-mode"} <= set(verdict.held)


def test_what_is_wrong_before_the_values_diverge_is_found():
    """A loop that clears no gradients does so from its second step on."""

    def train(model, train_loader, loss_fn, optimizer, device):
        model.train()
        for number, (images, labels) in enumerate(train_loader):
            loss_fn(model(images.to(device)), labels.to(device)).backward()
            optimizer.step()
            if number == 2:
                with torch.no_grad():
                    model.head.bias.fill_(float("nan"))

    assert verify(train, options=Options(cases=(Case(),), in_process=True)).primary == "zero-grad-missing"


def test_a_mask_of_minus_infinity_is_judged():
    """A buffer that begins so, and outputs of classes that are masked."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(784, 10)
            self.register_buffer("mask", torch.tensor([0.0] * 8 + [-torch.inf] * 2))

        def forward(self, images):
            return self.layer(images.flatten(1)) + self.mask

    contract = bind(declare(model=Masked, classes=8)(trains()), None)
    assert divergence(record(contract, Case(model="declared"))) is None
