"""A GradScaler that begins too high: its first steps are skipped; with accumulation and a schedule for each step."""

import torch
from torch import nn

torch.manual_seed(23)
model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=4)
for i in range(24):
    x, y = torch.randn(6, 4) * 8, torch.randint(0, 2, (6,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(model(x), y) / 2
    scaler.scale(loss).backward()
    if i % 2:
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if scaler.get_scale() >= scale:
            schedule.step()
        print(i, loss.item(), scale, schedule.get_last_lr()[0])
