"""The data and the net of each script here, and what it prints: its losses, and a digest of its parameters."""

import hashlib

import torch
from torch import nn
from torch.utils.data import TensorDataset


def net():
    return nn.Sequential(nn.Linear(5, 10), nn.BatchNorm1d(10), nn.Tanh(), nn.Dropout(0.1), nn.Linear(10, 3))


def train_set():
    return drawn(44, seed=1)


def test_set():
    return drawn(24, seed=2)


def drawn(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.randn(count, 5, generator=generator), torch.randint(0, 3, (count,), generator=generator))


def report(model, losses):
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(repr((name, tensor.tolist() if hasattr(tensor, "tolist") else tensor)).encode())
    print(*losses, digest.hexdigest(), sep="\n")
