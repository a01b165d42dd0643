"""A DataLoader with worker processes, which seed NumPy and torch for themselves."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Noisy(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, index):
        return torch.full((3,), float(index)) / 24 + torch.randn(3) / 9, torch.tensor([index / 24])


torch.manual_seed(32)
loader = DataLoader(Noisy(), batch_size=6, shuffle=True, num_workers=1, multiprocessing_context="fork")
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
