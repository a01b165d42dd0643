"""A cosine schedule that goes down and up again, in several whole cycles."""

import torch
from torch import nn

torch.manual_seed(7)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
inputs, targets = torch.randn(30, 4), torch.randn(30, 1)
for epoch in range(9):
    for x, y in zip(inputs.split(10), targets.split(10)):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    scheduler.step()
    print(epoch, scheduler.get_last_lr(), loss.item())
