"""Closures over model and optimizer: one makes a training step, one an evaluation."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_train_step(model, loss_fn, optimizer):
    def train_step(x, y):
        model.train()
        prediction = model(x)
        loss = loss_fn(prediction, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return train_step


def make_val_step(model, loss_fn):
    def val_step(x, y):
        model.eval()
        with torch.inference_mode():
            return loss_fn(model(x), y).item()

    return val_step


def main():
    torch.manual_seed(3)
    x = torch.rand(60, 1)
    y = 1 + 2 * x + 0.1 * torch.randn(60, 1)
    train_loader = DataLoader(TensorDataset(x[:40], y[:40]), batch_size=4, shuffle=True)
    val_loader = DataLoader(TensorDataset(x[40:], y[40:]), batch_size=4)
    model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.1), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    train_step = make_train_step(model, nn.MSELoss(), optimizer)
    val_step = make_val_step(model, nn.MSELoss())
    for _ in range(2):
        print("train", [train_step(*batch) for batch in train_loader][-1])
        print("val", [val_step(*batch) for batch in val_loader][-1])


if __name__ == "__main__":
    main()
