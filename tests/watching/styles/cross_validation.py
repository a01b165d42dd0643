"""Cross-validation with the same seed for each fold: samplers over one data set, a new model and optimizer a fold."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler, TensorDataset

data = TensorDataset(torch.randn(48, 4), torch.randint(0, 2, (48,)))
for fold in range(4):
    torch.manual_seed(36)
    held_out = list(range(fold * 12, fold * 12 + 12))
    rest = [i for i in range(48) if i not in held_out]
    train = DataLoader(data, batch_size=6, sampler=SubsetRandomSampler(rest))
    val = DataLoader(Subset(data, held_out), batch_size=6)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(2):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum((model(x).argmax(dim=1) == y).sum().item() for x, y in val)
        print(fold, epoch, loss.item(), right)
# All data again, with the same seed.
torch.manual_seed(36)
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for x, y in DataLoader(data, batch_size=6, shuffle=True):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
print(loss.item())
