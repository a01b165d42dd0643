"""Style transfer: an image is optimised, and the net that judges it stays frozen in eval mode."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(33)
cnn = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()).eval()
cnn.requires_grad_(False)
content, style = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)


def gram_matrix(features):
    flat = features.view(features.size(1), -1)
    return flat @ flat.t() / flat.numel()


content_target, style_target = cnn(content).detach(), gram_matrix(cnn(style)).detach()
image = content.clone().requires_grad_(True)
for optimizer, steps in ((torch.optim.LBFGS([image], max_iter=3), 3), (torch.optim.Adam([image], lr=0.02), 8)):
    for step in range(steps):

        def closure():
            with torch.no_grad():
                image.clamp_(0, 1)
            optimizer.zero_grad()
            features = cnn(image)
            loss = F.mse_loss(features, content_target) + 100 * F.mse_loss(gram_matrix(features), style_target)
            loss.backward()
            return loss

        print(step, optimizer.step(closure).item())
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
optimizer = torch.optim.Adam([image], lr=0.02)
for step in range(5):
    optimizer.zero_grad()
    loss = F.mse_loss(model(image), torch.ones(1, 4, 6, 6))
    loss.backward()
    optimizer.step()
    print(step, loss.item())
