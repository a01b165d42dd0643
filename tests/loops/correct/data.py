"""Data that are kept in memory, prepared by the loop itself."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.loops.correct.registry import correct


@correct(shuffles_itself=True)
def standardises_in_memory(model, train_set, test_set, criterion, optimizer, batch_size, epochs):
    """Both sets are drawn once, and scaled by what the training images say."""
    images, labels = (torch.stack([torch.as_tensor(sample[place]) for sample in train_set]) for place in (0, 1))
    others, wanted = (torch.stack([torch.as_tensor(sample[place]) for sample in test_set]) for place in (0, 1))
    mean, deviation = images.mean(), images.std()
    kept = TensorDataset((images - mean) / deviation, labels)
    for _ in range(epochs):
        model.train()
        for x, y in DataLoader(kept, batch_size, shuffle=True):
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return criterion(model((others - mean) / deviation), wanted).item()


@correct(shuffles_itself=True)
def standardises_each_pixel(model, train_set, test_set, criterion, optimizer, batch_size, epochs):
    """As a StandardScaler does: which samples a batch held cannot be told."""
    images, labels = (torch.stack([torch.as_tensor(sample[place]) for sample in train_set]) for place in (0, 1))
    others, wanted = (torch.stack([torch.as_tensor(sample[place]) for sample in test_set]) for place in (0, 1))
    mean, deviation = images.mean(dim=0), images.std(dim=0)
    kept = TensorDataset((images - mean) / deviation, labels)
    for _ in range(epochs):
        model.train()
        for x, y in DataLoader(kept, batch_size, shuffle=True):
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return criterion(model((others - mean) / deviation), wanted).item()


def normalised():
    """A model of the loop's own, with BatchNorm."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 10))


@correct(model=normalised, shuffles_itself=True)
def drops_one_sample(model, train_set, criterion, optimizer, batch_size, epochs):
    """A last batch of one sample, which BatchNorm cannot normalise, is left out."""
    alone = len(train_set) % batch_size == 1
    for _ in range(epochs):
        model.train()
        for images, labels in DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=alone):
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()


@correct(model=normalised, shuffles_itself=True)
def leaves_none_over(model, train_set, criterion, optimizer, batch_size, epochs):
    """It raises where one sample is left over, which is told: nobody knows that its data leave one."""
    for _ in range(epochs):
        model.train()
        for images, labels in DataLoader(train_set, batch_size=batch_size, shuffle=True):
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()
