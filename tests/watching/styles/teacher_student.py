"""Distillation: a teacher in eval mode without gradients, a student that learns from it."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


torch.manual_seed(26)
loader = DataLoader(TensorDataset(torch.randn(40, 4), torch.randint(0, 3, (40,))), batch_size=5, shuffle=True)
teacher, student = net(), net()
optimizer = torch.optim.Adam(teacher.parameters(), lr=0.01)
for x, y in loader:
    optimizer.zero_grad()
    F.cross_entropy(teacher(x), y).backward()
    optimizer.step()
teacher.eval()
optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
student.train()
for epoch in range(2):
    for x, y in loader:
        with torch.no_grad():
            soft = F.softmax(teacher(x) / 2, dim=1)
        logits = student(x)
        loss = 4 * F.kl_div(F.log_softmax(logits / 2, dim=1), soft, reduction="batchmean") + F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
