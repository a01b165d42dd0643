"""Tensors instead of a DataLoader: slices of a permutation, evaluation on all at once, a dictionary as batch."""

import torch
from torch import nn

torch.manual_seed(50)
train = {"x": torch.randn(48, 4), "y": torch.randint(0, 3, (48,))}
test = {"x": torch.randn(20, 4), "y": torch.randint(0, 3, (20,))}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
        self.loss = nn.CrossEntropyLoss()

    def forward(self, batch):
        logits = self.body(batch["x"])
        return {"loss": self.loss(logits, batch["y"]), "logits": logits}


model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3):
    model.train()
    permutation = torch.randperm(48)
    for i in range(0, 48, 6):
        index = permutation[i : i + 6]
        output = model({name: tensor[index] for name, tensor in train.items()})
        optimizer.zero_grad()
        output["loss"].backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        output = model(test)
    print(epoch, output["loss"].item(), (output["logits"].argmax(dim=1) == test["y"]).float().mean().item())
