"""Gradient clipping: when it is done, and to which gradient."""

import torch
from torch.nn.utils import clip_grad_norm_

from tests.loops.mutants import evaluate, mutant


@mutant("clip-missing", clip=0.5, evaluate=evaluate)
def never_clips(model, loader, loss_fn, optimizer, device):
    """Declared to clip at 0.5; the line is not there."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()


@mutant("clip-missing", clip=0.05)
def clips_an_exhausted_iterator(net, train_loader, criterion, opt, device, epochs, max_norm=0.05):
    """net.parameters() is an iterator: the first step uses it up, and the later ones clip nothing."""
    parameters = net.parameters()
    for _ in range(epochs):
        net.train()
        for x, y in train_loader:
            opt.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            clip_grad_norm_(parameters, max_norm)
            opt.step()


@mutant("clip-missing", clip=0.05)
class ClipsBeforeBackward:
    """Clips the gradients that zero_grad() has just cleared, and those of the batch not at all."""

    def __init__(self, model, optimizer, loss_fn, device, clip=0.05):
        self.model, self.optimizer, self.loss_fn, self.device, self.clip = model, optimizer, loss_fn, device, clip

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad(set_to_none=False)
                clip_grad_norm_(self.model.parameters(), self.clip)
                self.loss_fn(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()


@mutant("clip-after-step", clip=0.05, evaluate=evaluate)
def clips_too_late(model, train_loader, criterion, optimizer, device):
    """step() and then clip_grad_norm_(): what is clipped was applied already."""
    model.train()
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()
        optimizer.step()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.05)  # the likely line


@mutant("clip-after-step", clip=0.05)
def clips_too_late_and_clears_at_once(model, train_loader, loss_fn, optimizer, max_grad_norm):
    """step(), clip and zero_grad(): what was clipped is gone when the next batch comes."""
    model.train()
    for inputs, labels in train_loader:
        loss = loss_fn(model(inputs), labels)
        loss.backward()
        optimizer.step()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)  # the likely line
        optimizer.zero_grad()


@mutant("clip-after-step", clip=0.05)
class ClipsInItsCallback:
    """Clips in the callback that runs at the end of a batch, which is after the step."""

    def __init__(self, net, criterion, optimizer, device, grad_clip=0.05):
        self.net, self.criterion, self.optimizer, self.device = net, criterion, optimizer, device
        self.grad_clip = grad_clip

    def on_batch_end(self):
        clip_grad_norm_(self.net.parameters(), self.grad_clip)  # the likely line

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.net.train()
            for x, y in train_loader:
                loss = self.criterion(self.net(x.to(self.device)), y.to(self.device))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.on_batch_end()
        return self.net


@mutant("clip-per-micro-batch", clip=0.05, accumulate=2, evaluate=evaluate)
def clips_the_parts(model, loader, loss_fn, optimizer, device):
    """Clips after each backward() of a window, so that what has come together so far is cut again and again."""
    model.train()
    batches = list(loader)
    for start in range(0, len(batches), 2):
        window = batches[start : start + 2]
        samples = sum(len(targets) for _, targets in window)
        optimizer.zero_grad()
        for inputs, targets in window:
            loss = loss_fn(model(inputs.to(device)), targets.to(device))
            (loss * len(targets) / samples).backward()
            clip_grad_norm_(model.parameters(), 0.05)  # the likely line
        optimizer.step()


@mutant("clip-per-micro-batch", clip=0.05, accumulate=2)
class ClipsEachGradient:
    """Clips the gradient of each micro-batch by itself and adds the clipped ones up."""

    def __init__(self, model, optimizer, criterion, device, max_grad_norm=0.05):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device
        self.max_grad_norm = max_grad_norm

    def clipped(self, x, y):
        self.optimizer.zero_grad()
        self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
        clip_grad_norm_(self.model.parameters(), self.max_grad_norm)  # the likely line
        return {p: p.grad.clone() for p in self.model.parameters() if p.grad is not None}

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            parts, sizes = [], []
            for i, (x, y) in enumerate(train_loader, start=1):
                parts.append(self.clipped(x, y))
                sizes.append(len(y))
                if len(parts) == 2 or i == len(train_loader):
                    for p in parts[0]:
                        p.grad = sum(part[p] * size for part, size in zip(parts, sizes, strict=True)) / sum(sizes)
                    self.optimizer.step()
                    parts, sizes = [], []


@mutant("clip-before-unscale", clip=0.5, evaluate=evaluate)
def clips_scaled_gradients(model, train_loader, criterion, optimizer, scaler, device):
    """The gradients are clipped while they are 1024 times too long: unscaled, almost nothing is left of them."""
    model.train()
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        scaler.scale(loss).backward()
        clip_grad_norm_(model.parameters(), 0.5)  # the likely line
        scaler.step(optimizer)
        scaler.update()


@mutant("clip-before-unscale", clip=0.5)
def unscales_too_late(net, train_loader, val_loader, criterion, opt, scaler, device, epochs, clip=0.5):
    """unscale_() is there, one line below the clipping that needs it."""
    history = []
    for _ in range(epochs):
        net.train()
        for x, y in train_loader:
            opt.zero_grad()
            scaler.scale(criterion(net(x.to(device)), y.to(device))).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)  # the likely line
            scaler.unscale_(opt)
            scaler.step(opt)
            scaler.update()
        history.append(evaluate(net, val_loader, criterion, device))
    return history
