"""An autoencoder trained in a while loop that draws batches with next(), in steps rather than epochs."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(51)
train = DataLoader(TensorDataset(torch.rand(40, 6)), batch_size=8, shuffle=True, drop_last=True)
val = DataLoader(TensorDataset(torch.rand(20, 6)), batch_size=8)
encoder = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Dropout(0.05), nn.Linear(4, 2))
decoder = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 6))
autoencoder = nn.Sequential(encoder, decoder)
optimizer = torch.optim.NAdam(autoencoder.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=24, power=0.9)


def endless(loader):
    while True:
        yield from loader


def validate():
    was_training = autoencoder.training
    autoencoder.eval()
    with torch.no_grad():
        total = sum(nn.functional.mse_loss(autoencoder(x), x).item() for (x,) in val)
    autoencoder.train(was_training)
    return total


batches = endless(train)
for step in range(24):
    (x,) = next(batches)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(autoencoder(x), x)
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 8 == 7:
        print(step, loss.item(), validate())
