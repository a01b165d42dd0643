"""One optimizer for each layer, stepped one after the other; gradients cleared through the model."""

import torch
from torch import nn

torch.manual_seed(5)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
optimizers = [torch.optim.SGD(layer.parameters(), lr=0.01) for layer in model if isinstance(layer, nn.Linear)]
x = torch.randn(32, 4)
y = x.sum(dim=1, keepdim=True)
for step in range(20):
    model.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    print(step, loss.item())
