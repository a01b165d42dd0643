"""torch.compile: one graph, no break in it, and no compilation but the first, in train and in eval mode."""

import torch
import torch._dynamo.utils
from torch import nn

torch.manual_seed(31)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
compiled = torch.compile(model, backend="eager")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    model.train()
    for _ in range(4):
        x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(compiled(x), y)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print(epoch, loss.item(), compiled(torch.ones(8, 4)).sum().item())


@torch.compile(backend="eager")
def step_loss(x, y):
    return nn.functional.cross_entropy(model(x), y)


model.train()
for _ in range(3):
    optimizer.zero_grad()
    loss = step_loss(torch.randn(8, 4), torch.randint(0, 3, (8,)))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    print(loss.item())
print({name: dict(counts) for name, counts in torch._dynamo.utils.counters.items()})
