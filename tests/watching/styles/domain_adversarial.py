"""Domain-adversarial training: a function of one's own turns the gradient round; two loaders of unequal length."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, alpha):
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.alpha * grad, None


torch.manual_seed(54)
source = DataLoader(TensorDataset(torch.randn(32, 4), torch.randint(0, 2, (32,))), batch_size=4, shuffle=True)
target = DataLoader(TensorDataset(torch.randn(24, 4) + 1), batch_size=4, shuffle=True)
features = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
classifier, domain = nn.Linear(8, 2), nn.Linear(8, 1)
optimizer = torch.optim.SGD(
    [{"params": net.parameters()} for net in (features, classifier, domain)], lr=0.05, momentum=0.9
)
for epoch in range(2):
    iterator = iter(target)
    for x, y in source:
        try:
            (other,) = next(iterator)
        except StopIteration:
            iterator = iter(target)
            (other,) = next(iterator)
        own, foreign = features(x), features(other)
        loss = F.cross_entropy(classifier(own), y)
        for h, label in ((own, 0.0), (foreign, 1.0)):
            guess = domain(Reverse.apply(h, 0.3)).squeeze(1)
            loss = loss + F.binary_cross_entropy_with_logits(guess, torch.full_like(guess, label))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
