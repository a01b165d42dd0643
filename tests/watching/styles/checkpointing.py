"""Activation checkpointing: forwards run again within the backward pass."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2))
        self.rest = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        x = checkpoint(self.first, x, use_reentrant=False)
        return self.last(checkpoint_sequential(self.rest, 2, x, use_reentrant=True))


torch.manual_seed(30)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(10):
    x, y = torch.randn(8, 4), torch.randint(0, 2, (8,))
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    print(step, loss.item())
