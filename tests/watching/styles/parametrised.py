"""Weights made from other weights: spectral norm, weight norm, tied weights, a hypernetwork, layers that are shared."""

import torch
from torch import nn
from torch.nn.utils import parametrizations

torch.manual_seed(53)
model = nn.Sequential(
    parametrizations.spectral_norm(nn.Linear(4, 8)), nn.ReLU(), parametrizations.weight_norm(nn.Linear(8, 4))
)
encode, decode = nn.Linear(4, 8, bias=False), nn.Linear(8, 4, bias=False)
decode.weight = nn.Parameter(encode.weight.t().detach().clone())
tied = nn.Embedding(4, 4)
last = nn.Linear(4, 4, bias=False)
last.weight = tied.weight
optimizer = torch.optim.Adam(
    [*model.parameters(), *encode.parameters(), *decode.parameters(), *tied.parameters()], lr=0.01
)
for step in range(8):
    x, words = torch.randn(8, 4), torch.randint(0, 4, (8,))
    y = decode(encode(model(x))) + tied(words)
    loss = nn.functional.cross_entropy(last(y), words)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
