"""A siamese net on pairs, then a net trained on triplets: one model goes forward several times for one loss."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class Pairs(Dataset):
    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(count, 5, generator=generator)
        self.y = torch.randint(0, 3, (count,), generator=generator)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        other = (index * 7 + 3) % len(self)
        return self.x[index], self.x[other], (self.y[index] == self.y[other]).float()


torch.manual_seed(11)
net = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 3))
optimizer = torch.optim.Adadelta(net.parameters(), lr=0.5)
criterion = nn.BCEWithLogitsLoss()
train_loader = DataLoader(Pairs(40, 0), batch_size=5, shuffle=True)
test_loader = DataLoader(Pairs(20, 1), batch_size=5)
for epoch in range(2):
    net.train()
    for first, second, target in train_loader:
        optimizer.zero_grad()
        distance = F.pairwise_distance(net(first), net(second))
        loss = criterion(1 - distance, target)
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        right = sum(((F.pairwise_distance(net(a), net(b)) < 1) == t).sum().item() for a, b, t in test_loader)
    print(epoch, loss.item(), right)

triplet_loss = nn.TripletMarginLoss(margin=1.0)
net.train()
for step in range(8):
    anchor, positive, negative = torch.randn(3, 6, 5)
    loss = triplet_loss(net(anchor), net(positive), net(negative))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
