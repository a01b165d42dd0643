"""A GAN that goes through the discriminator's graph twice, with retain_graph, and clears before each backward pass."""

import torch
from torch import nn

torch.manual_seed(7)
G = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
D = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
optimizer_G = torch.optim.Adam(G.parameters(), lr=1e-3)
optimizer_D = torch.optim.Adam(D.parameters(), lr=1e-3)
bce = nn.BCEWithLogitsLoss()
ones, zeros = torch.ones(8, 1), torch.zeros(8, 1)
for i in range(12):
    real = torch.randn(8, 4) + 2
    z = torch.randn(8, 3)
    fake = G(z)
    optimizer_G.zero_grad()
    g_loss = bce(D(fake), ones)
    g_loss.backward(retain_graph=True)
    optimizer_G.step()
    optimizer_D.zero_grad()
    d_loss = (bce(D(real), ones) + bce(D(fake.detach()), zeros)) / 2
    d_loss.backward()
    optimizer_D.step()
    print(i, d_loss.item(), g_loss.item())
