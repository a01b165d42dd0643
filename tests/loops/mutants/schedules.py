"""Bugs of learning rate schedules and of gradient clipping."""

import torch
from torch.nn.utils import clip_grad_norm_

from tests.loops.mutants import evaluate, mutant

# --- scheduler-before-optimizer


@mutant("scheduler-before-optimizer", evaluate=evaluate)
def schedules_first(model, loader, loss_fn, optimizer, scheduler, device):
    """scheduler.step() at the epoch's start, as before torch 1.1: the first learning rate is never used."""
    scheduler.step()
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()


@mutant("scheduler-before-optimizer")
class AdjustsThenTrains:
    """adjust_learning_rate() is called before the epoch that it was to follow."""

    def __init__(self, model, optimizer, criterion, lr_scheduler, device):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device
        self.lr_scheduler = lr_scheduler

    def adjust_learning_rate(self):
        self.lr_scheduler.step()
        return self.optimizer.param_groups[0]["lr"]

    def fit(self, train_loader, epochs):
        rates = []
        for _ in range(epochs):
            rates.append(self.adjust_learning_rate())
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
        return rates


# --- scheduler-per-batch


@mutant("scheduler-per-batch", evaluate=evaluate)
def schedules_each_batch(model, train_loader, criterion, optimizer, scheduler, device):
    """A schedule by epochs that is stepped after each batch."""
    model.train()
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()
        optimizer.step()
        scheduler.step()


@mutant("scheduler-per-batch")
def schedules_in_both_loops(net, train_loader, test_loader, criterion, opt, sched, device, epochs):
    """sched.step() slipped one level in, into the loop over the batches."""
    for epoch in range(epochs):
        net.train()
        for x, y in train_loader:
            opt.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            opt.step()
            sched.step()
        loss, accuracy = evaluate(net, test_loader, criterion, device)
        yield {"epoch": epoch + 1, "test_loss": loss, "test_accuracy": accuracy}


# --- scheduler-per-micro-batch


@mutant("scheduler-per-micro-batch", accumulate=2, schedule="per-batch", evaluate=evaluate)
def schedules_each_micro_batch(model, loader, loss_fn, optimizer, scheduler, device):
    """One optimizer step for two batches, and one scheduler step for each of them."""
    model.train()
    batches = list(loader)
    for start in range(0, len(batches), 2):
        window = batches[start : start + 2]
        samples = sum(len(targets) for _, targets in window)
        optimizer.zero_grad()
        for i, (inputs, targets) in enumerate(window, start=1):
            loss = loss_fn(model(inputs.to(device)), targets.to(device))
            (loss * len(targets) / samples).backward()
            if i == len(window):
                optimizer.step()
            scheduler.step()


@mutant("scheduler-per-micro-batch", accumulate=2, schedule="per-batch")
class SchedulesInTheLoop:
    """The scheduler's step stands outside the `if` that guards the optimizer's."""

    def __init__(self, model, opt, criterion, scheduler, device, accumulation_steps=2):
        self.model, self.opt, self.criterion, self.scheduler = model, opt, criterion, scheduler
        self.device, self.accumulation_steps = device, accumulation_steps

    def is_last(self, i, batches):
        return (i + 1) % self.accumulation_steps == 0 or i + 1 == batches

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            samples = 0
            for i, (x, y) in enumerate(train_loader):
                (self.criterion(self.model(x.to(self.device)), y.to(self.device)) * len(y)).backward()
                samples += len(y)
                if self.is_last(i, len(train_loader)):
                    for p in self.model.parameters():
                        if p.grad is not None:
                            p.grad /= samples
                    self.opt.step()
                    self.opt.zero_grad()
                    samples = 0
                self.scheduler.step()
        return self.model


# --- clip-missing


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


# --- clip-after-step


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
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.05)


@mutant("clip-after-step", clip=0.05)
class ClipsInItsCallback:
    """Clips in the callback that runs at the end of a batch, which is after the step."""

    def __init__(self, net, criterion, optimizer, device, grad_clip=0.05):
        self.net, self.criterion, self.optimizer, self.device = net, criterion, optimizer, device
        self.grad_clip = grad_clip

    def on_batch_end(self):
        clip_grad_norm_(self.net.parameters(), self.grad_clip)

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


# --- clip-per-micro-batch


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
            clip_grad_norm_(model.parameters(), 0.05)
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
        clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
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
