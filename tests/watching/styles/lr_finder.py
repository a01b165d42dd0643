"""A learning-rate finder before the training: a few batches with a rising rate, then the weights are put back."""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(37)
loader = DataLoader(TensorDataset(torch.randn(60, 4), torch.randn(60, 1)), batch_size=4, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
before = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
rising = torch.optim.lr_scheduler.ExponentialLR(optimizer, 2.0)
losses = []
for x, y in loader:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    if losses and loss.item() > 4 * min(losses):
        break
    losses.append(loss.item())
    loss.backward()
    optimizer.step()
    rising.step()
print(losses)
model.load_state_dict(before[0])
optimizer.load_state_dict(before[1])
for group in optimizer.param_groups:
    group["lr"] = 0.01
for epoch in range(2):
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
