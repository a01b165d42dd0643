"""Schedules in a row, at once, and by hand: a warm-up and a cosine, a chain, a rate that is set in its group."""

import math

import torch
from torch import nn
from torch.optim import lr_scheduler as schedules

torch.manual_seed(48)
x = torch.randn(16, 3)
y = x.sum(dim=1)


def train(name, model, optimizer, step_schedule, steps=10):
    for step in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x).squeeze(-1), y)
        loss.backward()
        optimizer.step()
        step_schedule(step)
    print(name, loss.item(), optimizer.param_groups[0]["lr"])


def start():
    model = nn.Linear(3, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


model, optimizer = start()
warmup = schedules.LinearLR(optimizer, start_factor=0.1, total_iters=4)
cosine = schedules.CosineAnnealingLR(optimizer, T_max=6)
both = schedules.SequentialLR(optimizer, [warmup, cosine], milestones=[4])
train("sequence", model, optimizer, lambda _: both.step())

model, optimizer = start()
chain = schedules.ChainedScheduler(
    [schedules.ConstantLR(optimizer, 0.5, total_iters=3), schedules.ExponentialLR(optimizer, 0.9)]
)
train("chain", model, optimizer, lambda _: chain.step())

model, optimizer = start()
restarts = schedules.CosineAnnealingWarmRestarts(optimizer, T_0=4)
train("restarts", model, optimizer, lambda step: restarts.step(step / 2))

model, optimizer = start()
warm, main = schedules.LinearLR(optimizer, 0.2, total_iters=3), schedules.MultiStepLR(optimizer, [5, 8])
train("one or the other", model, optimizer, lambda step: warm.step() if step < 3 else main.step())


def by_hand(step):
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * (1 + math.cos(math.pi * step / 10)) / 2


model, optimizer = start()
train("by hand", model, optimizer, by_hand)

model, optimizer = start()
cyclic = schedules.CyclicLR(optimizer, base_lr=0.01, max_lr=0.1, step_size_up=3)
train("cyclic", model, optimizer, lambda _: cyclic.step())
