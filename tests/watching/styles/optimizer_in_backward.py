"""The optimizers step within the backward pass, in hooks that run once a gradient has been added up."""

import torch
from torch import nn

torch.manual_seed(17)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
optimizers = {p: torch.optim.Adam([p], lr=0.01, foreach=False) for p in model.parameters()}


def optimizer_hook(parameter):
    optimizers[parameter].step()
    optimizers[parameter].zero_grad()


for p in model.parameters():
    p.register_post_accumulate_grad_hook(optimizer_hook)
x, y = torch.randn(24, 4), torch.randint(0, 2, (24,))
for step in range(10):
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    print(step, loss.item())
