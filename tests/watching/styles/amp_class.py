"""Mixed precision in a class, with accumulation, clipping by value and two optimizers under one scaler."""

import torch
from torch import nn
from torch.nn import functional as F


class Engine:
    def __init__(self, accumulate=2):
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.body_optimizer = torch.optim.Adam(self.body.parameters(), lr=0.01)
        self.head_optimizer = torch.optim.SGD(self.head.parameters(), lr=0.01)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        self.accumulate = accumulate

    def forward_backward(self, x, y):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(self.head(torch.relu(self.body(x))), y) / self.accumulate
        self.scaler.scale(loss).backward()
        return loss.item()

    def update(self):
        for optimizer, part in ((self.body_optimizer, self.body), (self.head_optimizer, self.head)):
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_value_(part.parameters(), 0.1)
            self.scaler.step(optimizer)
        self.scaler.update()
        for optimizer in (self.body_optimizer, self.head_optimizer):
            optimizer.zero_grad()

    def fit(self, steps):
        for step in range(steps):
            losses = [self.forward_backward(torch.randn(6, 4), torch.randint(0, 2, (6,))) for _ in range(2)]
            self.update()
            print(step, losses)


torch.manual_seed(62)
Engine().fit(6)
