"""An attack by the sign of the gradient on a model in eval mode; then training against such attacks."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(34)
train = DataLoader(TensorDataset(torch.randn(40, 4), torch.randint(0, 2, (40,))), batch_size=5, shuffle=True)
test = DataLoader(TensorDataset(torch.randn(16, 4), torch.randint(0, 2, (16,))), batch_size=4)
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def perturb(x, y, epsilon=0.1):
    x = x.clone().requires_grad_(True)
    loss = F.cross_entropy(model(x), y)
    model.zero_grad()
    loss.backward()
    return (x + epsilon * x.grad.sign()).detach()


def attack():
    model.eval()
    return sum((model(perturb(x, y)).argmax(dim=1) == y).sum().item() for x, y in test)


def accuracy():
    model.eval()
    with torch.no_grad():
        return sum((model(x).argmax(dim=1) == y).sum().item() for x, y in test)


print(attack())
for epoch in range(2):
    for x, y in train:
        model.eval()
        adversarial = perturb(x, y)
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.cat([x, adversarial])), torch.cat([y, y]))
        loss.backward()
        optimizer.step()
    print(epoch, loss.item(), accuracy(), attack())
