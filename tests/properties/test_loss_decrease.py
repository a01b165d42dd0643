"""Loss decrease: asserted where it is a theorem, and where the margin is wide."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Subset

from tests import oracle
from tests.cases import class_counts, sample_counts, seeds

FULL_BATCH_STEPS = 5


@given(seed=seeds, samples=sample_counts, features=st.integers(1, 6), classes=class_counts, share=st.floats(0.05, 0.95))
def test_full_batch_descent_on_a_convex_loss(loop, device, seed, samples, features, classes, share):
    """On the full batch with lr below 2/L, a step lowers the loss of softmax regression by lr (1 - lr L / 2) |g|^2.

    The descent lemma (Nesterov, Introductory Lectures on Convex Optimization, 2004, 1.2.3). The Hessian of the mean
    cross-entropy is at most half the largest eigenvalue of X'X / N (Böhning, 1992); X has a column of ones for biases.
    """
    torch.manual_seed(seed)
    images = torch.randn(samples, features, dtype=torch.float64)
    batch = (images, torch.randint(classes, (samples,)))
    model = nn.Linear(features, classes, dtype=torch.float64).to(device)
    with_ones = torch.cat([images, torch.ones(samples, 1, dtype=torch.float64)], dim=1)
    smoothness = 0.5 * float(torch.linalg.eigvalsh(with_ones.T @ with_ones / samples).max())
    lr = share * 2 / smoothness
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    squared_norms = []
    losses = []

    def before_step(optimizer, args, kwargs):
        gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        squared_norms.append(float(gradient @ gradient))

    optimizer.register_step_pre_hook(before_step)
    for _ in range(FULL_BATCH_STEPS):
        losses.append(loop.train_one_epoch(model, [batch], nn.CrossEntropyLoss(), optimizer, device))
    losses.append(loop.evaluate(model, [batch], nn.CrossEntropyLoss(), device).loss)
    for (before, after), squared_norm in zip(pairwise(losses), squared_norms, strict=True):
        promised = lr * (1 - lr * smoothness / 2) * squared_norm
        assert before - after >= promised - oracle.ROUNDING * (1 + before), (
            f"the loss fell from {before} to {after}, less than the {promised:.3g} that the step promised"
        )


@given(seed=seeds)
def test_one_batch_is_memorised(loop, models, device, seed):
    """Sixty steps on one batch of sixteen images bring its loss below a tenth of where it began."""
    torch.manual_seed(seed)
    model = models.MLP(64, 32, 10).to(device)
    batch = (torch.randn(16, 1, 8, 8), torch.randint(10, (16,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = [loop.train_one_epoch(model, [batch], nn.CrossEntropyLoss(), optimizer, device) for _ in range(60)]
    assert losses[-1] < losses[0] / 10, f"the loss only fell from {losses[0]:.3f} to {losses[-1]:.3f}"


@given(seed=seeds, classes=class_counts, samples=sample_counts)
def test_a_zero_head_starts_at_the_logarithm_of_the_classes(loop, models, device, seed, classes, samples):
    """With a head of zeros every class is as likely as the others, and the first loss is ln C."""
    torch.manual_seed(seed)
    model = models.MLP(16, 8, classes).to(device, torch.float64)
    nn.init.zeros_(model.fc2.weight)
    nn.init.zeros_(model.fc2.bias)
    batch = (torch.randn(samples, 1, 4, 4, dtype=torch.float64), torch.randint(classes, (samples,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = loop.train_one_epoch(model, [batch], nn.CrossEntropyLoss(), optimizer, device)
    assert math.isclose(loss, math.log(classes), rel_tol=oracle.ROUNDING), f"the loss is {loss}, not ln {classes}"


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_the_second_epoch_is_better_than_the_first(loop, models, device, name, request):
    """On ten thousand images of the data, the mean loss of the second epoch is below that of the first."""
    data = request.getfixturevalue(name)
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(Subset(data.train, range(10_000)), batch_size=64, shuffle=True, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.MLP().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    first, second = (loop.train_one_epoch(model, loader, nn.CrossEntropyLoss(), optimizer, device) for _ in range(2))
    assert first < math.log(10), f"the mean loss of the first epoch, {first:.4f}, is no better than guessing"
    assert second < first, f"the mean loss went from {first:.4f} to {second:.4f}"
