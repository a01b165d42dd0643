"""LBFGS, which calls a closure several times for each step; then Adam with a closure."""

import torch
from torch import nn

torch.manual_seed(16)
x = torch.randn(30, 3)
y = (x @ torch.tensor([[1.0], [-2.0], [0.5]])) + 0.3
model = nn.Linear(3, 1)
criterion = nn.MSELoss()
for optimizer in (
    torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe"),
    torch.optim.Adam(model.parameters(), lr=0.01),
):
    for i in range(5):

        def closure():
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            return loss

        print(i, optimizer.step(closure).item())
