"""Losses of a part of a batch, and targets that are brought into shape."""

from __future__ import annotations

import torch

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
