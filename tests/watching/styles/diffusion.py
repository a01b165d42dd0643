"""A small diffusion model: samples are drawn from noise between the epochs, in eval mode and under no_grad."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)
steps = 5
betas = torch.linspace(0.01, 0.3, steps)
bars = torch.cumprod(1 - betas, dim=0)
loader = DataLoader(TensorDataset(torch.randn(40, 2) * 0.3 + 1), batch_size=8, shuffle=True, drop_last=True)
model = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Dropout(0.05), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)


@torch.no_grad()
def sample(count):
    x = torch.randn(count, 2)
    for t in reversed(range(steps)):
        noise = model(torch.cat([x, torch.full((count, 1), t / steps)], dim=1))
        x = (x - betas[t] / (1 - bars[t]).sqrt() * noise) / (1 - betas[t]).sqrt()
        if t:
            x = x + betas[t].sqrt() * torch.randn_like(x)
    return x


for epoch in range(3):
    model.train()
    for (x,) in loader:
        t = torch.randint(0, steps, (len(x),))
        noise = torch.randn_like(x)
        noisy = bars[t].sqrt().unsqueeze(1) * x + (1 - bars[t]).sqrt().unsqueeze(1) * noise
        predicted = model(torch.cat([noisy, t.unsqueeze(1) / steps], dim=1))
        loss = nn.functional.mse_loss(predicted, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    print(epoch, loss.item(), sample(4).mean().item())
