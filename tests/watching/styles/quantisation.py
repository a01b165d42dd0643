"""Quantisation-aware training: fake quantisation in the forward, BatchNorm frozen after some epochs."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Quantised(nn.Linear):
    def forward(self, x):
        scale = self.weight.detach().abs().max() / 127
        weight = torch.fake_quantize_per_tensor_affine(self.weight, scale.item(), 0, -128, 127)
        return nn.functional.linear(x, weight, self.bias)


torch.manual_seed(45)
x, y = torch.randn(48, 4), torch.randint(0, 2, (48,))
train = DataLoader(TensorDataset(x[:32], y[:32]), batch_size=4, shuffle=True)
val = DataLoader(TensorDataset(x[32:], y[32:]), batch_size=4)
model = nn.Sequential(Quantised(4, 8), nn.BatchNorm1d(8), nn.ReLU(), Quantised(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(4):
    model.train()
    if epoch > 1:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
    for a, b in train:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(a), b)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        right = sum((model(a).argmax(dim=1) == b).sum().item() for a, b in val)
    print(epoch, loss.item(), right)
