"""Mixed precision as torchvision's references have it: one function for both, a scaler or None, clipping if asked."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train_one_epoch(model, criterion, optimizer, data_loader, scaler=None, clip_grad_norm=None):
    model.train()
    for image, target in data_loader:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=scaler is not None):
            loss = criterion(model(image), target)
        optimizer.zero_grad()
        if scaler is not None:
            scaler.scale(loss).backward()
            if clip_grad_norm is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            if clip_grad_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
            optimizer.step()
    return loss.item()


def main(scaler, clip):
    torch.manual_seed(61)
    loader = DataLoader(TensorDataset(torch.randn(24, 4), torch.randint(0, 3, (24,))), batch_size=4, shuffle=True)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.9)
    for epoch in range(2):
        print(epoch, train_one_epoch(model, nn.CrossEntropyLoss(), optimizer, loader, scaler, clip))
        scheduler.step()


for scaler in (torch.amp.GradScaler("cpu"), None):
    for clip in (1.0, None):
        main(scaler, clip)
