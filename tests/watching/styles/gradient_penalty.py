"""A WGAN with a gradient penalty: gradients of gradients, through autograd.grad with create_graph."""

import torch
from torch import nn

torch.manual_seed(9)
G = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
D = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
optimizer_G = torch.optim.Adam(G.parameters(), lr=1e-3)
optimizer_D = torch.optim.Adam(D.parameters(), lr=1e-3)


def penalty(real, fake):
    alpha = torch.rand(real.size(0), 1)
    between = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
    score = D(between)
    (gradients,) = torch.autograd.grad(
        score, between, grad_outputs=torch.ones_like(score), create_graph=True, retain_graph=True, only_inputs=True
    )
    return ((gradients.norm(2, dim=1) - 1) ** 2).mean()


for i in range(15):
    real = torch.randn(8, 4)
    optimizer_D.zero_grad()
    fake = G(torch.randn(8, 3))
    d_loss = -D(real).mean() + D(fake).mean() + 10 * penalty(real.data, fake.data)
    d_loss.backward()
    optimizer_D.step()
    optimizer_G.zero_grad()
    if i % 5 == 0:
        g_loss = -D(G(torch.randn(8, 3))).mean()
        g_loss.backward()
        optimizer_G.step()
        print(i, d_loss.item(), g_loss.item())
