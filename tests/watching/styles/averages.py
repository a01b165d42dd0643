"""Averages of the weights: an EMA of each step, SWA with its schedule, and BatchNorm's statistics made anew."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(25)
loader = DataLoader(TensorDataset(torch.randn(40, 4), torch.randint(0, 2, (40,))), batch_size=5, shuffle=True)
test_loader = DataLoader(TensorDataset(torch.randn(20, 4), torch.randint(0, 2, (20,))), batch_size=5)
model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.1), nn.Linear(6, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
swa_model, ema_model = AveragedModel(model), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
swa_scheduler = SWALR(optimizer, swa_lr=0.02, anneal_epochs=2)
own_ema = copy.deepcopy(model).requires_grad_(False)


def accuracy(net):
    net.eval()
    with torch.no_grad():
        return sum((net(x).argmax(1) == y).sum().item() for x, y in test_loader) / 20


for epoch in range(5):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        ema_model.update_parameters(model)
        with torch.no_grad():
            for average, p in zip(own_ema.parameters(), model.parameters(), strict=True):
                average.lerp_(p, 0.1)
    if epoch >= 3:
        swa_model.update_parameters(model)
        swa_scheduler.step()
    else:
        scheduler.step()
    print(epoch, loss.item(), accuracy(model), accuracy(ema_model), accuracy(own_ema))
update_bn(loader, swa_model)
print(accuracy(swa_model))

# And by hand: over other data than was trained on.
calibration = DataLoader(TensorDataset(torch.randn(20, 4)), batch_size=5)
for module in model.modules():
    if isinstance(module, nn.BatchNorm1d):
        module.reset_running_stats()
        module.momentum = None
model.train()
with torch.no_grad():
    for (x,) in calibration:
        model(x)
print(accuracy(model))
