"""FixMatch: a loader with labels and one without, gone through together; pseudo-labels under no_grad in train mode."""

from itertools import cycle

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(28)
labelled = DataLoader(TensorDataset(torch.randn(12, 4), torch.randint(0, 3, (12,))), batch_size=4, shuffle=True)
unlabelled = DataLoader(TensorDataset(torch.randn(48, 4)), batch_size=8, shuffle=True)
test = DataLoader(TensorDataset(torch.randn(16, 4), torch.randint(0, 3, (16,))), batch_size=8)
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, nesterov=True)
for epoch in range(3):
    model.train()
    for (x, y), (u,) in zip(cycle(labelled), unlabelled, strict=False):
        with torch.no_grad():
            confidence, pseudo = model(u).softmax(dim=1).max(dim=1)
        supervised = F.cross_entropy(model(x), y)
        strong = model(u + 0.3 * torch.randn_like(u))
        loss = supervised + (F.cross_entropy(strong, pseudo, reduction="none") * (confidence > 0.4)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = sum((model(x).argmax(dim=1) == y).sum().item() for x, y in test)
    print(epoch, loss.item(), right)
