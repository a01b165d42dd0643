"""Fabric: an own loop, whose backward pass, model and loaders go through Fabric."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader

from frameworks_data import net, report, test_set, train_set

fabric = lightning.Fabric(accelerator="cpu", devices=1)
fabric.launch()
torch.manual_seed(0)
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
model, optimizer = fabric.setup(model, optimizer)
train_loader = fabric.setup_dataloaders(DataLoader(train_set(), batch_size=8, shuffle=True))
test_loader = fabric.setup_dataloaders(DataLoader(test_set(), batch_size=8))
losses = []
for _ in range(2):
    model.train()
    for step, (inputs, labels) in enumerate(train_loader):
        accumulating = step % 2 == 0
        with fabric.no_backward_sync(model, enabled=accumulating):
            loss = nn.functional.cross_entropy(model(inputs), labels) / 2
            fabric.backward(loss)
        losses.append(loss.item())
        if not accumulating:
            fabric.clip_gradients(model, optimizer, max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        losses += [nn.functional.cross_entropy(model(inputs), labels).item() for inputs, labels in test_loader]
report(model, losses)
