"""Learning-rate schedules: when the rate changes."""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, ReduceLROnPlateau

from tests.loops.mutants import evaluate, mutant


@mutant("scheduler-before-optimizer", evaluate=evaluate)
def schedules_first(model, loader, loss_fn, optimizer, scheduler, device):
    """scheduler.step() at the epoch's start, as before torch 1.1: the first learning rate is never used."""
    scheduler.step()  # the likely line
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
        self.lr_scheduler.step()  # the likely line
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


@mutant("scheduler-per-batch", schedule="per-epoch", evaluate=evaluate)
def schedules_each_batch(model, train_loader, criterion, optimizer, scheduler, device):
    """A schedule by epochs that is stepped after each batch."""
    model.train()
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()
        optimizer.step()
        scheduler.step()  # the likely line


@mutant("scheduler-per-epoch", schedule="per-batch")
def warms_up_by_epochs(model, train_loader, loss_fn, optimizer, scheduler, epochs):
    """A schedule by steps, such as a warm-up, that is stepped after each epoch."""
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        scheduler.step()  # the likely line


@mutant("scheduler-per-batch", schedule="per-epoch")
def schedules_in_both_loops(net, train_loader, test_loader, criterion, opt, sched, device, epochs):
    """sched.step() slipped one level in, into the loop over the batches."""
    for epoch in range(epochs):
        net.train()
        for x, y in train_loader:
            opt.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            opt.step()
            sched.step()  # the likely line
        loss, accuracy = evaluate(net, test_loader, criterion, device)
        yield {"epoch": epoch + 1, "test_loss": loss, "test_accuracy": accuracy}


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
            scheduler.step()  # the likely line


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
                self.scheduler.step()  # the likely line
        return self.model


@mutant("scheduler-not-stepped")
def forgets_the_schedule(model, train_loader, test_loader, loss_fn, optimizer, scheduler, device, epochs):
    """The rate that the schedule gives is logged in each epoch, and the schedule is never stepped."""
    history = []
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        loss, _ = evaluate(model, test_loader, loss_fn, device)
        history.append({"lr": scheduler.get_last_lr()[0], "test_loss": loss})
    return history


@mutant("plateau-mode-wrong")
def waits_for_the_accuracy_to_fall(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """The schedule has its default mode, "min", and is given the accuracy."""
    plateau = ReduceLROnPlateau(optimizer, patience=1, factor=0.5)  # the likely line
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        plateau.step(evaluate(model, val_loader, loss_fn, device)[1])


@mutant("scheduler-horizon")
def ends_in_batches_and_steps_by_epochs(model, train_loader, loss_fn, optimizer, device, epochs):
    """The cosine is built for all batches, and stepped once an epoch: it hardly begins."""
    schedule = CosineAnnealingLR(optimizer, T_max=epochs * len(train_loader))  # the likely line
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        schedule.step()


@mutant("scheduler-horizon")
def decays_by_epochs_and_steps_by_batches(model, train_loader, loss_fn, optimizer, device, epochs):
    """The line goes down to almost nothing within as many batches as there are epochs."""
    schedule = LinearLR(optimizer, start_factor=1.0, end_factor=0.01, total_iters=epochs)  # the likely line
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
            schedule.step()


@mutant("scheduler-horizon")
def cycles_by_epochs_and_steps_by_batches(model, train_loader, loss_fn, device, epochs, lr):
    """The cycle is as long as the training has epochs, and is stepped with each batch: it raises in the first epoch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    cycle = OneCycleLR(optimizer, max_lr=lr, total_steps=epochs)  # the likely line
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
            cycle.step()
