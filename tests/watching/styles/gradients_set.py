"""Gradients from autograd.grad are set by hand, and an optimizer applies them; also into tensors that stay the same."""

import torch
from torch import nn

torch.manual_seed(46)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
parameters = list(model.parameters())
optimizer = torch.optim.Adam(parameters, lr=0.01)
for step in range(10):
    x = torch.randn(8, 4)
    loss = nn.functional.mse_loss(model(x), x.sum(dim=1, keepdim=True))
    for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        if step < 5 or p.grad is None:
            p.grad = g
        else:
            p.grad.copy_(g)
    optimizer.step()
    print(step, loss.item())
