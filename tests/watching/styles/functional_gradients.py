"""Gradients from torch.func: of a function of the parameters, and of each sample by vmap."""

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

torch.manual_seed(18)
model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1))
params = {name: p.detach() for name, p in model.named_parameters()}
x = torch.randn(16, 3)
y = x.sum(dim=1, keepdim=True)


def loss_of(params, x, y):
    return nn.functional.mse_loss(functional_call(model, params, (x,)), y)


for step in range(5):
    grads, loss = grad_and_value(loss_of)(params, x, y)
    params = {name: p - 0.05 * grads[name] for name, p in params.items()}
    print(step, loss.item())

# With gradients clipped for each sample, and given to an optimizer.
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(5):
    own = dict(model.named_parameters())
    detached = {name: p.detach() for name, p in own.items()}
    grads, losses = vmap(grad_and_value(loss_of), in_dims=(None, 0, 0))(detached, x, y)
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads.values()]).norm(dim=0)
    factor = (1.0 / (norms + 1e-6)).clamp(max=1.0)
    for name, p in own.items():
        p.grad = torch.einsum("b,b...->...", factor, grads[name]) / len(x)
    optimizer.step()
    print(step, losses.mean().item())
