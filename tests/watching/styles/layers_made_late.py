"""Layers that a model makes in its first forward, for the shape that it sees, and lazy layers."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Late(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = None

    def forward(self, x):
        if self.parts is None:
            self.parts = nn.Sequential(nn.Linear(x.shape[1], 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.LazyLinear(2))
        return self.parts(x)


torch.manual_seed(4)
data = TensorDataset(torch.randn(48, 5), torch.randint(0, 2, (48,)))
held_out = TensorDataset(torch.randn(16, 5), torch.randint(0, 2, (16,)))
train_loader = DataLoader(data, batch_size=8, shuffle=True)
test_loader = DataLoader(held_out, batch_size=8)

model = Late()
model(torch.zeros(2, 5))  # makes the layers
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(2):
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(model(x), y).item() for x, y in test_loader]
    print(epoch, loss.item(), losses)
