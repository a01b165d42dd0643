"""Quantile regression of values, as QR-DQN has it: each quantile is compared with each target, on purpose."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(5)
quantiles = nn.Linear(6, 5)
target = nn.Linear(6, 5)
target.load_state_dict(quantiles.state_dict())
optimizer = torch.optim.Adam(quantiles.parameters(), lr=1e-3)
taus = (torch.arange(5) + 0.5) / 5
for step in range(20):
    states, next_states, rewards = torch.randn(8, 6), torch.randn(8, 6), torch.randn(8, 1)
    predicted = quantiles(states).unsqueeze(2)
    with torch.no_grad():
        wanted = (rewards + 0.9 * target(next_states)).unsqueeze(1)
    huber = F.smooth_l1_loss(predicted.expand(-1, -1, 5), wanted.expand(-1, 5, -1), reduction="none")
    pairs = F.smooth_l1_loss(predicted, wanted, reduction="none")
    assert torch.equal(huber, pairs)
    below = (wanted - predicted.detach() < 0).float()
    loss = ((taus[None, :, None] - below).abs() * pairs).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 9:
        target.load_state_dict(quantiles.state_dict())
print(loss.item())
