"""MoCo and BYOL: an encoder that follows by momentum, in train mode under no_grad; a queue of keys."""

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(27)
loader = DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=4, shuffle=True, drop_last=True)
encoder_q = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
encoder_k = copy.deepcopy(encoder_q)
for p in encoder_k.parameters():
    p.requires_grad = False
optimizer = torch.optim.SGD(encoder_q.parameters(), lr=0.03, momentum=0.9)
queue = F.normalize(torch.randn(5, 16), dim=0)
for epoch in range(2):
    for (x,) in loader:
        first, second = x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)
        q = F.normalize(encoder_q(first), dim=1)
        with torch.no_grad():
            for k_param, q_param in zip(encoder_k.parameters(), encoder_q.parameters(), strict=True):
                k_param.data = k_param.data * 0.99 + q_param.data * 0.01
            k = F.normalize(encoder_k(second), dim=1)
        logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ queue.clone().detach()], dim=1) / 0.2
        loss = F.cross_entropy(logits, torch.zeros(len(x), dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        queue = torch.cat([queue[:, len(x) :], k.T], dim=1)
    print("moco", epoch, loss.item())

online = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
predictor, target = nn.Linear(5, 5), copy.deepcopy(online)
optimizer = torch.optim.Adam([*online.parameters(), *predictor.parameters()], lr=0.01)
for epoch in range(2):
    for (x,) in loader:
        first, second = x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)
        with torch.no_grad():
            goal = target(second)
        loss = 2 - 2 * F.cosine_similarity(predictor(online(first)), goal.detach()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for t, o in zip(target.parameters(), online.parameters(), strict=True):
            t.data.mul_(0.9).add_(o.data, alpha=0.1)
    print("byol", epoch, loss.item())
