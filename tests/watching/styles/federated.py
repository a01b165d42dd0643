"""Federated averaging: each client trains a copy with an optimizer of its own, the server averages the weights."""
# finds optimizer-recreated: each client has an optimizer of its own in each round, by intent

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(49)
data = TensorDataset(torch.randn(48, 4), torch.randint(0, 2, (48,)))
clients = [DataLoader(Subset(data, range(i, 48, 3)), batch_size=4, shuffle=True) for i in range(3)]
test = DataLoader(TensorDataset(torch.randn(16, 4), torch.randint(0, 2, (16,))), batch_size=8)
server = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
local = copy.deepcopy(server)
for turn in range(3):
    states = []
    for loader in clients:
        local.load_state_dict(server.state_dict())
        optimizer = torch.optim.SGD(local.parameters(), lr=0.1, momentum=0.9)
        local.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(local(x), y)
            loss.backward()
            optimizer.step()
        states.append(copy.deepcopy(local.state_dict()))
    server.load_state_dict({name: torch.stack([s[name] for s in states]).mean(dim=0) for name in states[0]})
    server.eval()
    with torch.no_grad():
        right = sum((server(x).argmax(dim=1) == y).sum().item() for x, y in test)
    print(turn, loss.item(), right)
