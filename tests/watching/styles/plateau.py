"""A rate that falls on a plateau, early stopping, and the best weights loaded at the end."""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(47)
x, y = torch.randn(56, 4), torch.randn(56, 1)
train = DataLoader(TensorDataset(x[:40], y[:40]), batch_size=4, shuffle=True)
val = DataLoader(TensorDataset(x[40:], y[40:]), batch_size=4)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
best, waited = float("inf"), 0
for epoch in range(6):
    model.train()
    for a, b in train:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(a), b)
        loss.backward()
        optimizer.step()
    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for a, b in val:
            val_loss += nn.functional.mse_loss(model(a), b).item()
    scheduler.step(val_loss)
    print(epoch, loss.item(), val_loss, optimizer.param_groups[0]["lr"])
    if val_loss < best:
        best, waited, weights = val_loss, 0, copy.deepcopy(model.state_dict())
    else:
        waited += 1
    if waited > 2:
        break
model.load_state_dict(weights)
