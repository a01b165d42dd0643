"""Resources: memory and time that a loop takes without need."""

import math

import torch

from tests.loops.mutants import evaluate, mutant


@mutant("graph-leak", evaluate=evaluate)
def sums_the_graphs(model, loader, loss_fn, optimizer, device):
    """Adds up the losses with their graphs, total += loss: every step of the epoch stays in memory."""
    model.train()
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        total += loss * len(targets)  # the likely line
        count += len(targets)
    return total.item() / count


@mutant("graph-leak")
class KeepsTheLosses:
    """A history of losses, each with its graph."""

    def __init__(self, net, criterion, optimizer, device):
        self.net, self.criterion, self.optimizer, self.device = net, criterion, optimizer, device
        self.losses = []

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.net.train()
            for x, y in train_loader:
                loss = self.criterion(self.net(x.to(self.device)), y.to(self.device))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.losses.append(loss)  # the likely line
        return torch.stack(self.losses).tolist()


@mutant("graph-leak")
def keeps_the_outputs(model, train_loader, test_loader, loss_fn, optimizer, device, epochs):
    """Collects the outputs of an epoch for a statistic at its end, and the graphs with them."""
    for _ in range(epochs):
        model.train()
        outputs = []
        for x, y in train_loader:
            optimizer.zero_grad()
            outputs.append(model(x.to(device)))
            loss_fn(outputs[-1], y.to(device)).backward()
            optimizer.step()
        largest = torch.cat(outputs).abs().max().item()
        test_loss, test_accuracy = evaluate(model, test_loader, loss_fn, device)
        yield {"largest_output": largest, "test_loss": test_loss, "test_accuracy": test_accuracy}


@mutant("retain-graph", evaluate=evaluate)
def retains_the_graph(model, train_loader, criterion, optimizer, device):
    """retain_graph=True at each step, which once silenced an error."""
    model.train()
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward(retain_graph=True)  # the likely line
        optimizer.step()


@mutant("retain-graph")
class RetainsForLater:
    """A helper for backward() that retains the graph for a second pass that was given up."""

    def __init__(self, net, opt, loss_fn, device):
        self.net, self.opt, self.loss_fn, self.device = net, opt, loss_fn, device

    def backward(self, loss):
        self.opt.zero_grad()
        loss.backward(retain_graph=True)  # the likely line

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.net.train()
            for x, y in train_loader:
                self.backward(self.loss_fn(self.net(x.to(self.device)), y.to(self.device)))
                self.opt.step()
        return self.net


@mutant("sync-every-step", evaluate=evaluate)
def reads_each_loss(model, loader, loss_fn, optimizer, device):
    """loss.item() for each batch: each step waits for the device."""
    model.train()
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(targets)  # the likely line
        count += len(targets)
    return total / count


@mutant("sync-every-step")
class ChecksEachLoss:
    """Asks of each loss whether it is finite, which is to wait for it."""

    def __init__(self, model, optimizer, criterion, device):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                loss = self.criterion(self.model(x.to(self.device)), y.to(self.device))
                if not math.isfinite(float(loss.detach())):  # the likely line
                    raise FloatingPointError("the loss is not finite")
                loss.backward()
                self.optimizer.step()
        return self.model
