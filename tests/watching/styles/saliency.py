"""Saliency maps of a network in eval mode, beside another that is trained: backward passes that train nothing."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(6)
model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 3))
data = TensorDataset(torch.randn(40, 6), torch.randint(0, 3, (40,)))
model.eval()
for inputs, labels in DataLoader(data, batch_size=8):
    inputs.requires_grad_(True)
    model.zero_grad()
    model(inputs).gather(1, labels[:, None]).sum().backward()
    print(inputs.grad.abs().mean().item())

other = nn.Linear(6, 3)
optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
for inputs, labels in DataLoader(data, batch_size=8, shuffle=True):
    optimizer.zero_grad()
    nn.functional.cross_entropy(other(inputs), labels).backward()
    optimizer.step()
