"""Several tasks: a weighted sum of losses, one backward pass for each loss, and gradients of tasks put together by hand."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(43)
trunk, classify, regress = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 1)
log_vars = nn.Parameter(torch.zeros(2))
parts = nn.ModuleList([trunk, classify, regress])
optimizer = torch.optim.Adam([*parts.parameters(), log_vars], lr=0.01)


def losses_of(x, y, t):
    h = torch.relu(trunk(x))
    return F.cross_entropy(classify(h), y), F.mse_loss(regress(h).squeeze(1), t)


def batch():
    return torch.randn(8, 4), torch.randint(0, 3, (8,)), torch.randn(8)


for step in range(6):
    first, second = losses_of(*batch())
    loss = first * torch.exp(-log_vars[0]) + second * torch.exp(-log_vars[1]) + log_vars.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("weighted", step, loss.item())
for step in range(6):
    optimizer.zero_grad()
    first, second = losses_of(*batch())
    first.backward(retain_graph=True)
    second.backward()
    optimizer.step()
    print("one by one", step, first.item(), second.item())
for step in range(6):
    grads = []
    for loss in losses_of(*batch()):
        optimizer.zero_grad(set_to_none=True)
        loss.backward(retain_graph=True)
        grads.append([None if p.grad is None else p.grad.clone() for p in parts.parameters()])
    optimizer.zero_grad(set_to_none=True)
    for p, g, h in zip(parts.parameters(), *grads, strict=True):
        both = [one for one in (g, h) if one is not None]
        p.grad = torch.stack(both).mean(dim=0)
    optimizer.step()
    print("surgery", step, loss.item())
