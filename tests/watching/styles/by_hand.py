"""Updates by hand, without an optimizer: through .data, under no_grad, and with new leaves for each step."""

import torch
from torch import nn

torch.manual_seed(21)
x, y = torch.randn(20, 3), torch.randn(20, 1)
model, lr = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)), 0.05
for step in range(6):
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    for p in model.parameters():
        p.data -= lr * p.grad.data
        p.grad.data.zero_()
    print("data", step, loss.item())
for p in model.parameters():
    p.grad = None
for step in range(6):
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= lr * p.grad
            p.grad = None
    print("no_grad", step, loss.item())
w = torch.randn(3, 1, requires_grad=True)
b = torch.zeros(1, requires_grad=True)
for step in range(6):
    loss = ((x @ w + b - y) ** 2).mean()
    loss.backward()
    w, b = ((p - lr * p.grad).detach().requires_grad_() for p in (w, b))
    print("leaves", step, loss.item())
