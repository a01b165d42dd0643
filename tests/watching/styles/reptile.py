"""Reptile: an inner training on a copy with an optimizer of its own, an outer step that moves the weights by hand."""
# finds optimizer-recreated: an inner optimizer is built for each task, by intent

import copy

import torch
from torch import nn

torch.manual_seed(20)
model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
for iteration in range(5):
    slope = torch.randn(1)
    before = copy.deepcopy(model.state_dict())
    inner_optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(4):
        x = torch.randn(8, 1)
        loss = nn.functional.mse_loss(model(x), slope * x)
        inner_optimizer.zero_grad()
        loss.backward()
        inner_optimizer.step()
    after = model.state_dict()
    model.load_state_dict({name: before[name] + (after[name] - before[name]) * 0.3 for name in before})
    print(iteration, loss.item())
