"""An encoder and a head, each with an optimizer and a schedule of its own."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(4)
loader = DataLoader(TensorDataset(torch.randn(48, 6), torch.randn(48, 2)), batch_size=6, shuffle=True)
encoder, head = nn.Linear(6, 8), nn.Linear(8, 2)
encoder_optimizer = torch.optim.SGD(encoder.parameters(), lr=0.01, momentum=0.9)
head_optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
schedule = torch.optim.lr_scheduler.ExponentialLR(encoder_optimizer, 0.9)
criterion = nn.MSELoss()
for epoch in range(3):
    for x, y in loader:
        encoder_optimizer.zero_grad()
        head_optimizer.zero_grad()
        loss = criterion(head(torch.relu(encoder(x))), y)
        loss.backward()
        encoder_optimizer.step()
        head_optimizer.step()
    schedule.step()
    print(epoch, loss.item())
