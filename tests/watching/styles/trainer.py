"""A class that trains: one schedule over all steps, clipping, the best weights kept."""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Trainer:
    def __init__(self, model, loaders, epochs=2):
        self.model = model
        self.train_loader, self.val_loader = loaders
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=1e-2, total_steps=epochs * len(self.train_loader)
        )
        self.epochs = epochs
        self.best = float("inf")

    def train_step(self, batch):
        inputs, targets = batch
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.criterion(self.model(inputs), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()
        return loss.item()

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        return sum(self.criterion(self.model(x), y).item() for x, y in self.val_loader)

    def fit(self):
        for epoch in range(self.epochs):
            self.model.train()
            losses = [self.train_step(batch) for batch in self.train_loader]
            val = self.validate()
            if val < self.best:
                self.best, self.weights = val, copy.deepcopy(self.model.state_dict())
            print(epoch, losses[-1], val)


torch.manual_seed(2)
data = TensorDataset(torch.randn(60, 5), torch.randint(0, 2, (60,)))
train_set, val_set = random_split(data, [40, 20], generator=torch.Generator().manual_seed(0))
net = nn.Sequential(nn.Linear(5, 10), nn.BatchNorm1d(10), nn.Tanh(), nn.Dropout(0.1), nn.Linear(10, 2))
trainer = Trainer(net, (DataLoader(train_set, batch_size=5, shuffle=True), DataLoader(val_set, batch_size=5)))
trainer.fit()
