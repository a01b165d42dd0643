"""Fine-tuning: a backbone whose BatchNorm stays in eval mode with frozen weights, and a new head; then a probe."""

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


def freeze_bn(module):
    if isinstance(module, nn.BatchNorm2d):
        module.eval()
        module.weight.requires_grad_(False)
        module.bias.requires_grad_(False)


torch.manual_seed(35)
x, y = torch.randn(60, 1, 5, 5), torch.randint(0, 2, (60,))
train = DataLoader(TensorDataset(x[:40], y[:40]), batch_size=5, shuffle=True)
val = DataLoader(TensorDataset(x[40:], y[40:]), batch_size=5)
model = Backbone()
model.fc = nn.Linear(4, 2)
optimizer = torch.optim.SGD(
    [{"params": model.conv.parameters(), "lr": 1e-3}, {"params": [*model.bn.parameters(), *model.fc.parameters()]}],
    lr=1e-2,
    momentum=0.9,
)
criterion = nn.CrossEntropyLoss()
for epoch in range(2):
    for phase, loader in (("train", train), ("val", val)):
        if phase == "train":
            model.train()
            model.apply(freeze_bn)
        else:
            model.eval()
        for inputs, labels in loader:
            optimizer.zero_grad()
            with torch.set_grad_enabled(phase == "train"):
                loss = criterion(model(inputs), labels)
                if phase == "train":
                    loss.backward()
                    optimizer.step()
        print(epoch, phase, loss.item())

# A probe on frozen features: the backbone in eval mode, as it should be.
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
