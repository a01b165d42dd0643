"""A training that is resumed: once from the states of all parts, once with the schedule wound forward by hand."""

import io

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(38)
loader = DataLoader(TensorDataset(torch.randn(32, 4), torch.randn(32, 1)), batch_size=4, shuffle=True)
T = 4


def build():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer


def epoch_of(model, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()


model, optimizer = build()
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
for epoch in range(2):
    print(epoch, epoch_of(model, optimizer))
    scheduler.step()
file = io.BytesIO()
torch.save([model.state_dict(), optimizer.state_dict(), scheduler.state_dict()], file)

file.seek(0)
states = torch.load(file)
model, optimizer = build()
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
for part, state in zip((model, optimizer, scheduler), states, strict=True):
    part.load_state_dict(state)
for epoch in range(2, T):
    print("loaded", epoch, epoch_of(model, optimizer), scheduler.get_last_lr())
    scheduler.step()

import warnings  # noqa: E402

model, optimizer = build()
model.load_state_dict(states[0])
optimizer.load_state_dict(states[1])
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for _ in range(2):
        scheduler.step()
for epoch in range(2, T):
    print("wound forward", epoch, epoch_of(model, optimizer), scheduler.get_last_lr())
    scheduler.step()
