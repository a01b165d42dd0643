"""MAML: inner steps by hand with create_graph, the outer step by an optimizer."""

import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(19)
model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
meta_optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for iteration in range(6):
    meta_optimizer.zero_grad()
    outer = 0.0
    for _ in range(3):
        slope = torch.randn(1)
        x, x_query = torch.randn(6, 1), torch.randn(6, 1)
        fast = dict(model.named_parameters())
        for _ in range(2):
            inner = nn.functional.mse_loss(functional_call(model, fast, (x,)), slope * x)
            grads = torch.autograd.grad(inner, list(fast.values()), create_graph=True)
            fast = {name: p - 0.1 * g for (name, p), g in zip(fast.items(), grads, strict=True)}
        loss = nn.functional.mse_loss(functional_call(model, fast, (x_query,)), slope * x_query) / 3
        loss.backward()
        outer += loss.item()
    meta_optimizer.step()
    print(iteration, outer)
