"""TorchScript and FX: a scripted loss, a scripted and a traced model that are trained, a graph module of FX."""

import torch
from torch import nn
from torch.nn import functional as F


def smooth_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, target, label_smoothing=0.1) + F.mse_loss(logits, torch.zeros_like(logits)) * 0.01


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


torch.manual_seed(44)
loss_fn = torch.jit.script(smooth_loss)
x, y = torch.randn(24, 4), torch.randint(0, 3, (24,))
models = {
    "scripted": torch.jit.script(Net()),
    "traced": torch.jit.trace(Net(), x),
    "fx": torch.fx.symbolic_trace(Net()),
}
for name, model in models.items():
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(5):
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        print(name, step, loss.item())
print(models["fx"].code)
