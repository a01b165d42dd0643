"""Layers are frozen at first and thawed later; a group is added to the optimizer; progress is watched by hooks."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

torch.manual_seed(56)
x, y = torch.randn(60, 4), torch.randint(0, 2, (60,))
sampler = WeightedRandomSampler(torch.rand(40), 40)
train = DataLoader(TensorDataset(x[:40], y[:40]), batch_size=5, sampler=sampler)
val = DataLoader(TensorDataset(x[40:], y[40:]), batch_size=5)
body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
head = nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 2))
model = nn.Sequential(body, head)
norms = []
head[1].weight.register_hook(lambda grad: norms.append(grad.norm().item()))
body.register_forward_hook(lambda module, args, output: norms.append(output.mean().item()))
for p in body.parameters():
    p.requires_grad = False
optimizer = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9)
for epoch in range(4):
    if epoch == 2:
        for p in body.parameters():
            p.requires_grad = True
        optimizer.add_param_group({"params": list(body.parameters()), "lr": 0.01})
    model.train()
    for a, b in train:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(a), b)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = sum((model(a).argmax(dim=1) == b).sum().item() for a, b in val)
    print(epoch, loss.item(), right, sum(norms))
