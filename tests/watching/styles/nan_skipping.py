"""Batches whose loss or gradients are not finite are left out, before the backward pass or before the step."""
# finds loss-not-finite: a loss is not finite and its gradients are put right, as an information

import math

import torch
from torch import nn

torch.manual_seed(41)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(14):
    x = torch.randn(8, 4)
    if step % 5 == 4:
        x[0, 0] = math.inf
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), torch.ones(8, 1))
    if step < 6 and not torch.isfinite(loss):
        print(step, "loss left out")
        continue
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if not torch.isfinite(norm):
        print(step, "gradients left out")
        continue
    optimizer.step()
    print(step, loss.item())
