"""A linear probe: a new head on a frozen model, which is in eval mode as it should be."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.1)
        self.fc = nn.Linear(4, 10)

    def forward(self, x):
        return self.fc(self.drop(torch.relu(self.bn(self.conv(x))).mean(dim=(2, 3))))


torch.manual_seed(35)
x, y = torch.randn(60, 1, 5, 5), torch.randint(0, 2, (60,))
train = DataLoader(TensorDataset(x[:40], y[:40]), batch_size=5, shuffle=True)
model = Backbone()
criterion = nn.CrossEntropyLoss()
model.requires_grad_(False)
model.eval()
model.fc = nn.Linear(4, 2)
optimizer = torch.optim.Adam(model.fc.parameters(), lr=1e-2)
for epoch in range(2):
    for inputs, labels in train:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
    print("probe", epoch, loss.item())
