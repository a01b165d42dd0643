"""More than one optimizer, or more than one player."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import nn

from tests.loops.correct.registry import correct


@correct(own_optimizer=True)
def one_optimizer_a_part(model, loader, loss_fn, lr, epochs):
    """The head learns by SGD, all else by Adam."""
    head = {id(p) for p in model.head.parameters()}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in head]
    optimizers = [torch.optim.SGD([p for p in model.head.parameters() if p.requires_grad], lr=lr)]
    if rest:
        optimizers.append(torch.optim.Adam(rest, lr=lr))
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            for optimizer in optimizers:
                optimizer.step()


@correct(own_objective=True, own_optimizer=True)
def alternates(model, loader, loss_fn, lr):
    """Two optimizers that take turns: the head on one batch, all else on the next, each on a cleared gradient."""
    head = {id(p) for p in model.head.parameters()}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in head]
    parts = [[p for p in model.head.parameters() if p.requires_grad], rest]
    optimizers = [torch.optim.SGD(part, lr=lr) for part in parts if part]
    model.train()
    for i, (x, y) in enumerate(loader):
        model.zero_grad()
        loss_fn(model(x), y).backward()
        optimizers[i % len(optimizers)].step()


@correct(own_objective=True, own_optimizer=True)
def gan(model, loader, lr, epochs):
    """The model tells real inputs from a generator's by the log-sum-exp of its outputs; the two train in turn."""
    x, _ = next(iter(loader))
    generator = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, x[0].numel())).to(x.dtype)
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=lr)
    d_optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)

    def realness(inputs):
        return model(inputs).logsumexp(dim=1)

    model.train()
    for _ in range(epochs):
        for real, _ in loader:
            fake = generator(torch.randn(len(real), 4, dtype=real.dtype)).view_as(real)

            d_optimizer.zero_grad()
            (F.softplus(-realness(real)).mean() + F.softplus(realness(fake.detach())).mean()).backward()
            d_optimizer.step()

            g_optimizer.zero_grad()
            F.softplus(-realness(fake)).mean().backward()
            g_optimizer.step()


@correct(own_objective=True)
def distils(model, loader, loss_fn, optimizer):
    """Half of the loss is the distance to a teacher, which is the model as it came."""
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    model.train()
    for x, y in loader:
        outputs = model(x)
        with torch.no_grad():
            wanted = teacher(x)
        loss = 0.5 * loss_fn(outputs, y) + 0.5 * F.mse_loss(outputs, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def half_distilled(model, images, labels, teacher):
    """What `distils_from_a_moving_teacher` minimises."""
    teacher.eval()
    with torch.no_grad():
        wanted = teacher(images)
    outputs = model(images)
    return 0.5 * F.cross_entropy(outputs, labels) + 0.5 * F.mse_loss(outputs, wanted)


@correct(objective=half_distilled)
def distils_from_a_moving_teacher(model, loader, loss_fn, optimizer, epochs):
    """The teacher follows the model after each epoch, and stays in eval mode."""
    teacher = copy.deepcopy(model).eval()
    for _ in range(epochs):
        model.train()
        for x, y in loader:
            outputs = model(x)
            with torch.no_grad():
                wanted = teacher(x)
            loss = 0.5 * loss_fn(outputs, y) + 0.5 * F.mse_loss(outputs, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        teacher.load_state_dict(model.state_dict())


def deceives(model, images, labels, critic):
    """What `DeceivesACritic` minimises."""
    outputs = model(images)
    return F.cross_entropy(outputs, labels) + F.softplus(-critic(outputs)).mean()


@correct(objective=deceives)
class DeceivesACritic:
    """A critic, which learns first, tells outputs from one-hot labels; the model learns to deceive it."""

    def __init__(self, model, optimizer, loss_fn):
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        weight = next(p for p in model.parameters() if p.requires_grad)
        self.critic = nn.Linear(10, 1).to(weight)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=0.01)

    def fit(self, loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in loader:
                outputs = self.model(x)
                self.critic_optimizer.zero_grad()
                real = F.one_hot(y, 10).to(outputs)
                (F.softplus(-self.critic(real)) + F.softplus(self.critic(outputs.detach()))).mean().backward()
                self.critic_optimizer.step()
                self.optimizer.zero_grad()
                (self.loss_fn(outputs, y) + F.softplus(-self.critic(outputs)).mean()).backward()
                self.optimizer.step()


def mixed(model, images, labels):
    """What `mixes_up_as_declared` minimises."""
    weight = np.random.beta(0.4, 0.4)
    other = torch.randperm(len(images), device=images.device)
    outputs = model(weight * images + (1 - weight) * images[other])
    return weight * F.cross_entropy(outputs, labels) + (1 - weight) * F.cross_entropy(outputs, labels[other])


@correct(objective=mixed, accumulate=2)
def mixes_up_as_declared(model, loader, loss_fn, optimizer, device):
    """Mixup with NumPy's random numbers, over two batches a step."""
    model.train()
    window = 2 * loader.batch_size
    for number, (x, y) in enumerate(loader, 1):
        x, y = x.to(device), y.to(device)
        weight = np.random.beta(0.4, 0.4)
        other = torch.randperm(len(x), device=device)
        outputs = model(weight * x + (1 - weight) * x[other])
        loss = weight * loss_fn(outputs, y) + (1 - weight) * loss_fn(outputs, y[other])
        rest = len(loader.dataset) - (number - 1) // 2 * window
        (loss * len(x) / min(window, rest)).backward()
        if number % 2 == 0 or number == len(loader):
            optimizer.step()
            optimizer.zero_grad()


def agrees_with_itself(model, images, labels, strength=0.1):
    """What `agrees` minimises."""
    with torch.no_grad():
        wanted = model(images).softmax(dim=1)
    outputs = model(images + strength * torch.randn_like(images))
    return F.cross_entropy(outputs, labels) + (outputs.softmax(dim=1) - wanted).square().mean()


@correct(objective=agrees_with_itself)
def agrees(model, loader, loss_fn, optimizer, epochs, strength=0.2):
    """The outputs for noisy inputs are drawn to those without noise; the strength decreases with the epochs."""
    for _ in range(epochs):
        model.train()
        for x, y in loader:
            with torch.no_grad():
                wanted = model(x).softmax(dim=1)
            outputs = model(x + strength * torch.randn_like(x))
            optimizer.zero_grad()
            (loss_fn(outputs, y) + (outputs.softmax(dim=1) - wanted).square().mean()).backward()
            optimizer.step()
        strength /= 2


@correct(own_objective=True)
def penalises(model, loader, loss_fn, optimizer):
    """An L1 penalty on all weights beside the loss."""
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        penalty = sum(p.abs().sum() for p in model.parameters())
        (loss_fn(model(x), y) + 1e-3 * penalty).backward()
        optimizer.step()


@correct(own_objective=True)
def mixes_up(model, loader, loss_fn, optimizer):
    """Mixup: each input is blended with another one, and so are their losses."""
    model.train()
    for x, y in loader:
        weight = torch.distributions.Beta(0.4, 0.4).sample().item()
        other = torch.randperm(len(x))
        outputs = model(weight * x + (1 - weight) * x[other])
        loss = weight * loss_fn(outputs, y) + (1 - weight) * loss_fn(outputs, y[other])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@correct(own_objective=True)
def sharpness_aware(model, loader, loss_fn, optimizer):
    """SAM: the gradient is that at the point uphill, the step starts from where the weights were."""
    trained = [p for p in model.parameters() if p.requires_grad]
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in trained if p.grad is not None]).norm()
            uphill = {p: 0.05 * p.grad / (norm + 1e-12) for p in trained if p.grad is not None}
            for parameter, offset in uphill.items():
                parameter += offset
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        with torch.no_grad():
            for parameter, offset in uphill.items():
                parameter -= offset
        optimizer.step()
