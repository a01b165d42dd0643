"""A WGAN: the critic's weights are clipped through .data, and the generator steps at every third batch."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(8)
dataloader = DataLoader(TensorDataset(torch.randn(48, 4) * 2), batch_size=4, shuffle=True)
generator = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
critic = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
optimizer_G = torch.optim.RMSprop(generator.parameters(), lr=5e-4)
optimizer_D = torch.optim.RMSprop(critic.parameters(), lr=5e-4)
for epoch in range(2):
    for i, (real,) in enumerate(dataloader):
        optimizer_D.zero_grad()
        fake = generator(torch.randn(real.shape[0], 3)).detach()
        loss_D = -critic(real).mean() + critic(fake).mean()
        loss_D.backward()
        optimizer_D.step()
        for p in critic.parameters():
            p.data.clamp_(-0.01, 0.01)
        if i % 3 == 0:
            optimizer_G.zero_grad()
            loss_G = -critic(generator(torch.randn(real.shape[0], 3))).mean()
            loss_G.backward()
            optimizer_G.step()
            print(epoch, i, loss_D.item(), loss_G.item())
