"""Functions that train and evaluate what stands in globals; a schedule for each epoch."""

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)
x, y = torch.randn(80, 6), torch.randint(0, 4, (80,))
train_loader = DataLoader(TensorDataset(x[:48], y[:48]), batch_size=6, shuffle=True)
val_loader = DataLoader(TensorDataset(x[48:], y[48:]), batch_size=6)
model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 4))
optimizer = optim.Adam(model.parameters(), lr=1e-2)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)


def train(epoch):
    model.train()
    for data, target in train_loader:
        optimizer.zero_grad()
        output = F.log_softmax(model(data), dim=1)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
    print("train", epoch, loss.item())


def test():
    model.eval()
    test_loss = 0
    with torch.no_grad():
        for data, target in val_loader:
            output = F.log_softmax(model(data), dim=1)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
    print("test", test_loss / len(val_loader.dataset))


for epoch in range(3):
    train(epoch)
    test()
    scheduler.step()
