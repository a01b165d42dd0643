"""Gradient accumulation: several batches make one step."""

import torch

from tests.loops.mutants import evaluate, mutant


@mutant("zero-grad-per-micro-batch", accumulate=2, evaluate=evaluate)
def clears_each_micro_batch(model, loader, loss_fn, optimizer, device):
    """zero_grad() stands where a plain loop has it: of each window the last batch alone counts."""
    model.train()
    batches = list(loader)
    for start in range(0, len(batches), 2):
        window = batches[start : start + 2]
        samples = sum(len(targets) for _, targets in window)
        for inputs, targets in window:
            optimizer.zero_grad()  # the likely line
            loss = loss_fn(model(inputs.to(device)), targets.to(device))
            (loss * len(targets) / samples).backward()
        optimizer.step()


@mutant("zero-grad-per-micro-batch", accumulate=2)
class ClearsInForward:
    """training_step() clears, as it did before accumulation was added around it."""

    def __init__(self, model, optimizer, criterion, device, accumulation_steps=2):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device
        self.accumulation_steps = accumulation_steps

    def training_step(self, x, y, parts):
        self.optimizer.zero_grad()  # the likely line
        loss = self.criterion(self.model(x.to(self.device)), y.to(self.device))
        (loss / parts).backward()

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for i, (x, y) in enumerate(train_loader):
                first = i - i % self.accumulation_steps
                parts = min(self.accumulation_steps, len(train_loader) - first)
                self.training_step(x, y, parts)
                if i + 1 == first + parts:
                    self.optimizer.step()


@mutant("zero-grad-drops-tail", accumulate=2, evaluate=evaluate)
def loses_the_open_window(model, loader, loss_fn, optimizer, device):
    """Steps at full windows alone, and clears at the epoch's start: an odd last batch is computed and lost."""
    model.train()
    optimizer.zero_grad()
    for i, (inputs, targets) in enumerate(loader):
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        (loss / 2).backward()
        if (i + 1) % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()


@mutant("zero-grad-drops-tail", accumulate=3)
def drops_the_tail(net, train_loader, test_loader, criterion, opt, device, epochs, accum_steps=3):
    """A whole fit that averages over the samples of a window, and forgets the last, incomplete one."""
    for _ in range(epochs):
        net.train()
        opt.zero_grad()
        samples = 0
        for step, (x, y) in enumerate(train_loader, start=1):
            loss = criterion(net(x.to(device)), y.to(device))
            (loss * len(y)).backward()
            samples += len(y)
            if step % accum_steps == 0:
                for p in net.parameters():
                    if p.grad is not None:
                        p.grad /= samples
                opt.step()
                opt.zero_grad()
                samples = 0
        yield evaluate(net, test_loader, criterion, device)


@mutant("accumulation-not-divided", accumulate=2, evaluate=evaluate)
def adds_the_batches_up(model, dataloader, criterion, optimizer, device):
    """The losses of a window are added up, and not divided by the number of batches in it."""
    model.train()
    optimizer.zero_grad()
    for i, (x, y) in enumerate(dataloader):
        loss = criterion(model(x.to(device)), y.to(device))
        loss.backward()  # the likely line
        if (i + 1) % 2 == 0 or i + 1 == len(dataloader):
            optimizer.step()
            optimizer.zero_grad()


@mutant("accumulation-not-divided", accumulate=4)
class SumsTheWindow:
    """The division by the number of micro-batches is done for the log, and not for backward()."""

    def __init__(self, model, optimizer, loss_fn, device, accumulate=4):
        self.model, self.optimizer, self.loss_fn, self.device = model, optimizer, loss_fn, device
        self.accumulate = accumulate

    def windows(self, loader):
        window = []
        for batch in loader:
            window.append(batch)
            if len(window) == self.accumulate:
                yield window
                window = []
        if window:
            yield window

    def fit(self, train_loader, epochs):
        logged = []
        for _ in range(epochs):
            self.model.train()
            for window in self.windows(train_loader):
                self.optimizer.zero_grad()
                logged.append(0.0)
                for x, y in window:
                    loss = self.loss_fn(self.model(x.to(self.device)), y.to(self.device))
                    loss.backward()  # the likely line
                    logged[-1] += loss.detach() / len(window)
                self.optimizer.step()
        return torch.stack(logged).tolist()


@mutant("accumulation-mean-of-means", accumulate=2, evaluate=evaluate)
def weighs_batches_alike(model, loader, loss_fn, optimizer, device):
    """A partial batch weighs as much in its window as a full one, sample for sample more."""
    model.train()
    batches = list(loader)
    for start in range(0, len(batches), 2):
        window = batches[start : start + 2]
        optimizer.zero_grad()
        for inputs, targets in window:
            loss = loss_fn(model(inputs.to(device)), targets.to(device))
            (loss / len(window)).backward()
        optimizer.step()


@mutant("accumulation-mean-of-means", accumulate=4)
class AveragesGradients:
    """Collects the gradient of each micro-batch and applies their plain mean, whatever their sizes."""

    def __init__(self, net, optim, criterion, device):
        self.net, self.optim, self.criterion, self.device = net, optim, criterion, device

    def gradients(self, x, y):
        loss = self.criterion(self.net(x.to(self.device)), y.to(self.device))
        return torch.autograd.grad(loss, self.parameters)

    def step(self, collected):
        for parameter, grads in zip(self.parameters, zip(*collected, strict=True), strict=True):
            parameter.grad = torch.stack(grads).mean(dim=0)
        self.optim.step()

    def fit(self, train_loader, epochs):
        self.parameters = [p for p in self.net.parameters() if p.requires_grad]
        for _ in range(epochs):
            self.net.train()
            collected = []
            for i, (x, y) in enumerate(train_loader, start=1):
                collected.append(self.gradients(x, y))
                if len(collected) == 4 or i == len(train_loader):
                    self.step(collected)
                    collected = []
        return self.net


@mutant("accumulation-tail", accumulate=4, evaluate=evaluate)
def divides_the_tail_by_four(model, train_loader, criterion, optimizer, device):
    """The last, incomplete window is stepped, and divided by 4 all the same."""
    model.train()
    optimizer.zero_grad()
    for i, (x, y) in enumerate(train_loader):
        loss = criterion(model(x.to(device)), y.to(device)) / 4
        loss.backward()
        if (i + 1) % 4 == 0 or i + 1 == len(train_loader):
            optimizer.step()
            optimizer.zero_grad()


@mutant("accumulation-tail", accumulate=2)
def scales_the_tail_down(model, train_dl, valid_dl, loss_func, opt, device, epochs, grad_accum_steps=2):
    """Weighs each batch by its share of a full window; the last window of an epoch is not full."""
    history = []
    for _ in range(epochs):
        model.train()
        opt.zero_grad()
        for step, (xb, yb) in enumerate(train_dl, start=1):
            share = len(xb) / (grad_accum_steps * train_dl.batch_size)
            (loss_func(model(xb.to(device)), yb.to(device)) * share).backward()
            if step % grad_accum_steps == 0:
                opt.step()
                opt.zero_grad()
        if step % grad_accum_steps:
            opt.step()
        history.append(evaluate(model, valid_dl, loss_func, device))
    return history
