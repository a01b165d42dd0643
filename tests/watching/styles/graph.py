"""A graph net on one graph: the whole graph in each step, the nodes split by masks."""

import torch
from torch import nn
from torch.nn import functional as F


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x, adjacency):
        x = F.dropout(F.relu(adjacency @ self.first(x)), 0.3, training=self.training)
        return F.log_softmax(adjacency @ self.second(x), dim=1)


torch.manual_seed(59)
x, y = torch.randn(20, 5), torch.randint(0, 3, (20,))
adjacency = (torch.rand(20, 20) > 0.7).float() + torch.eye(20)
adjacency = adjacency / adjacency.sum(dim=1, keepdim=True)
train_mask, test_mask = torch.arange(20) < 12, torch.arange(20) >= 12
model = GCN()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)


def train():
    model.train()
    optimizer.zero_grad()
    output = model(x, adjacency)
    loss = F.nll_loss(output[train_mask], y[train_mask])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def test():
    model.eval()
    return (model(x, adjacency).argmax(dim=1) == y)[test_mask].float().mean().item()


for epoch in range(10):
    print(epoch, train(), test())
