"""Data that come as a stream, online: one sample a step, an IterableDataset, and mixup of each batch with itself."""

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset


class Stream(IterableDataset):
    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(24):
            yield torch.randn(4, generator=generator), torch.randint(0, 2, (1,), generator=generator).item()


torch.manual_seed(57)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
criterion = nn.CrossEntropyLoss()
for epoch in range(2):
    for x, y in DataLoader(Stream(), batch_size=4):
        lam = torch.distributions.Beta(0.4, 0.4).sample()
        index = torch.randperm(len(x))
        output = model(lam * x + (1 - lam) * x[index])
        loss = lam * criterion(output, y) + (1 - lam) * criterion(output, y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
for x, y in Stream():
    optimizer.zero_grad()
    loss = criterion(model(x.unsqueeze(0)), torch.tensor([y]))
    loss.backward()
    optimizer.step()
print(loss.item())
