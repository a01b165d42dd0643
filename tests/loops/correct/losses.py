"""Losses of a part of a batch, and targets that are brought into shape."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name that everyone gives it

from tests.loops.correct.registry import correct


@correct()
def masks_samples(model, loader, criterion, optimizer):
    """A mask leaves samples out, such as those that are padding."""
    model.train()
    for x, y in loader:
        real = torch.arange(len(y)) % 3 != 2
        optimizer.zero_grad()
        criterion(model(x)[real], y[real]).backward()
        optimizer.step()


@correct(expects="logits")
def focuses_on_the_hard(model, loader, optimizer):
    """The focal loss weighs a sample by how wrong its output is."""
    model.train()
    for x, y in loader:
        right = model(x).softmax(dim=1).gather(1, y[:, None])
        optimizer.zero_grad()
        (-((1 - right) ** 2) * right.log()).mean().backward()
        optimizer.step()


@correct()
def flattens_the_labels(model, train_loader, criterion, optimizer, epochs):
    """Labels of shape (N, 1) are made (N,), which a cross-entropy takes; the accuracy says that they are classes."""
    accuracies = []
    for _ in range(epochs):
        model.train()
        hits = count = 0
        for x, y in train_loader:
            outputs, labels = model(x), y.view(-1)
            optimizer.zero_grad()
            criterion(outputs, labels).backward()
            optimizer.step()
            _, predicted = torch.max(outputs.data, 1)
            hits += (predicted == labels).sum().item()
            count += len(labels)
        accuracies.append(hits / count)
    return accuracies


def one_number():
    """A model of one number for a sample of eight."""
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1))


@correct(model=one_number, input_shape=(8,))
def regresses_on_a_column(model, train_loader, optimizer, epochs):
    """Targets of shape (N, 1) would fit; labels of shape (N,) do not, which is told and is no bug of the loop."""
    criterion = nn.MSELoss()
    for _ in range(epochs):
        for x, y in train_loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()


@correct(model=one_number, input_shape=(8,))
def regresses_on_numbers(model, train_loader, optimizer, epochs):
    """Predictions and labels both have the shape (N,)."""
    for _ in range(epochs):
        for x, y in train_loader:
            optimizer.zero_grad()
            F.smooth_l1_loss(model(x).squeeze(1), y.to(x.dtype)).backward()
            optimizer.step()


@correct(model=one_number, input_shape=(8,))
def pushes_numbers_apart(model, train_loader, optimizer, epochs):
    """A hinge for each pair of a batch, as a ranking has it."""
    for _ in range(epochs):
        for x, y in train_loader:
            numbers = model(x).flatten()
            above = (y[:, None] > y[None, :]).to(x.dtype)
            hinges = (1 - (numbers[:, None] - numbers[None, :])).relu()
            optimizer.zero_grad()
            ((above * hinges).sum() / above.sum().clamp(min=1)).backward()
            optimizer.step()
