"""MC dropout: in the evaluation Dropout stays at work, by intent, and many forwards are averaged."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(29)
x = torch.randn(60, 3)
data = TensorDataset(x, x.pow(2).sum(dim=1, keepdim=True))
train = DataLoader(TensorDataset(*data[:40]), batch_size=5, shuffle=True)
test = DataLoader(TensorDataset(*data[40:]), batch_size=5)
model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(2):
    model.train()
    for a, b in train:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(a), b)
        loss.backward()
        optimizer.step()
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        for a, _ in test:
            draws = torch.stack([model(a) for _ in range(4)])
    print(epoch, loss.item(), draws.std(dim=0).mean().item())
