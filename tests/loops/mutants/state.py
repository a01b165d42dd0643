"""State: buffers, the best weights, averaged weights, checkpoints."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tests.loops.correct.selection import KeepsTheBestOverAStop
from tests.loops.mutants import evaluate, mutant


@mutant("best-is-last", keeps_best=True)
def keeps_a_reference(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """Keeps best = model.state_dict(), which holds the model's own tensors: the next step changes them too."""
    best_loss, best = float("inf"), None
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        loss, _ = evaluate(model, val_loader, loss_fn, device)
        if loss < best_loss:
            best_loss, best = loss, model.state_dict()  # the likely line
    model.load_state_dict(best)
    return model


@mutant("best-is-last", keeps_best=True)
class CopiesTheDict:
    """Copies the dict of the state, and not the tensors in it."""

    def __init__(self, net, criterion, optimizer, device):
        self.net, self.criterion, self.optimizer, self.device = net, criterion, optimizer, device
        self.best_loss, self.best_weights = float("inf"), {}

    def train_epoch(self, loader):
        self.net.train()
        for x, y in loader:
            self.optimizer.zero_grad()
            self.criterion(self.net(x.to(self.device)), y.to(self.device)).backward()
            self.optimizer.step()

    def remember(self, loss):
        if loss < self.best_loss:
            self.best_loss = loss
            self.best_weights = copy.copy(self.net.state_dict())  # the likely line

    def fit(self, train_loader, val_loader, epochs):
        for _ in range(epochs):
            self.train_epoch(train_loader)
            loss, _ = evaluate(self.net, val_loader, self.criterion, self.device)
            self.remember(loss)
        self.net.load_state_dict(self.best_weights)
        return self.best_loss


@mutant("best-is-last", keeps_best=True)
def returns_the_model_itself(net, train_dl, valid_dl, criterion, opt, device, num_epochs):
    """The best model is kept under another name: it is the same object."""
    best_net, best_loss = net, float("inf")
    for _ in range(num_epochs):
        net.train()
        for xb, yb in train_dl:
            loss = criterion(net(xb.to(device)), yb.to(device))
            loss.backward()
            opt.step()
            opt.zero_grad()
        loss, _ = evaluate(net, valid_dl, criterion, device)
        if loss < best_loss:
            best_net, best_loss = net, loss
    return best_net


@mutant("averaged-weights-wrong", average=0.9)
def swaps_the_decay(model, train_loader, loss_fn, optimizer, device, epochs):
    """The average takes 0.9 of what is new and 0.1 of what it has: the decay is on the wrong side."""
    average = copy.deepcopy(model)
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
            with torch.no_grad():
                for mean, parameter in zip(average.parameters(), model.parameters(), strict=True):
                    mean.lerp_(parameter, 0.9)
        for mean, buffer in zip(average.buffers(), model.buffers(), strict=True):
            mean.copy_(buffer)
    return average


@mutant("averaged-weights-wrong", average=0.9)
class AveragesWithoutBuffers:
    """Averages the parameters and leaves the buffers of BatchNorm at their start."""

    def __init__(self, net, opt, criterion, device, decay=0.9):
        self.net, self.opt, self.criterion, self.device, self.decay = net, opt, criterion, device, decay
        self.average = copy.deepcopy(net)

    @torch.no_grad()
    def update_average(self):
        for mean, parameter in zip(self.average.parameters(), self.net.parameters(), strict=True):
            mean.mul_(self.decay).add_(parameter, alpha=1 - self.decay)

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.net.train()
            for x, y in train_loader:
                self.opt.zero_grad()
                self.criterion(self.net(x.to(self.device)), y.to(self.device)).backward()
                self.opt.step()
                self.update_average()
        return self.average


@mutant("averaged-weights-wrong", average=0.9)
def averages_epochs(model, train_loader, test_loader, criterion, optimizer, device, epochs):
    """The average over the steps is updated once an epoch."""
    ema = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(epochs):
        model.train()
        for images, labels in train_loader:
            loss = criterion(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trained = dict(model.named_parameters())
        for name, value in model.state_dict().items():
            ema[name] = 0.9 * ema[name] + 0.1 * value if name in trained else value.clone()
        evaluate(model, test_loader, criterion, device)
    return ema


@mutant("averaged-weights-wrong")
def evaluates_the_average_as_it_is(model, train_loader, val_loader, criterion, optimizer, device, epochs):
    """Stochastic weight averaging without update_bn: BatchNorm has the statistics of the initial weights."""
    averaged = AveragedModel(model)
    losses = []
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            criterion(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        averaged.update_parameters(model)
        losses.append(evaluate(averaged, val_loader, criterion, device)[0])
    return losses


@mutant("averaged-weights-wrong")
class EvaluatesWithoutBuffers:
    """The moving average has the parameters alone, and evaluates with the statistics of its start."""

    def __init__(self, model, criterion, optimizer, device):
        self.model, self.criterion, self.optimizer, self.device = model, criterion, optimizer, device
        self.shadow = copy.deepcopy(model)

    def fit(self, train_loader, val_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
                with torch.no_grad():
                    for mean, parameter in zip(self.shadow.parameters(), self.model.parameters(), strict=True):
                        mean.lerp_(parameter, 0.2)
            evaluate(self.shadow, val_loader, self.criterion, self.device)


def _save_without_optimizer(model, path):
    torch.save({"model": model.state_dict(), "rng": torch.get_rng_state()}, path)


def _load_without_optimizer(model, path):
    checkpoint = torch.load(path, weights_only=True)
    model.load_state_dict(checkpoint["model"])
    torch.set_rng_state(checkpoint["rng"])


@mutant("resume-incomplete", evaluate=evaluate, save=_save_without_optimizer, load=_load_without_optimizer)
def forgets_the_optimizer(model, loader, loss_fn, optimizer, device):
    """The checkpoint has the model and the random numbers, and not the optimizer's momentum."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()


def _save_without_rng(net, opt, ckpt):
    torch.save({"net": net.state_dict(), "opt": opt.state_dict()}, ckpt)


def _load_without_rng(net, opt, ckpt):
    state = torch.load(ckpt, weights_only=True)
    net.load_state_dict(state["net"])
    opt.load_state_dict(state["opt"])


@mutant("resume-incomplete", save=_save_without_rng, load=_load_without_rng)
def forgets_the_random_numbers(net, train_loader, criterion, opt, device, epoch):
    """The state of the generator is not in the checkpoint: order and dropout go on with other numbers."""
    net.train()
    total = 0.0
    for x, y in train_loader:
        x, y = x.to(device), y.to(device)
        loss = criterion(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.detach() * len(y)
    return {"epoch": epoch, "loss": float(total) / len(train_loader.dataset)}


def _save_without_scheduler(model, optimizer, path):
    torch.save([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()], path)


def _load_without_scheduler(model, optimizer, path):
    weights, moments, rng = torch.load(path, weights_only=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    model.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr
    torch.set_rng_state(rng)


@mutant("resume-incomplete", evaluate=evaluate, save=_save_without_scheduler, load=_load_without_scheduler)
def forgets_the_scheduler(model, loader, loss_fn, optimizer, scheduler, device):
    """The scheduler is not in the checkpoint, and the learning rate begins anew at its first value."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()
    scheduler.step()


@mutant("state-differs", evaluate=evaluate)
def changes_the_momentum(model, loader, loss_fn, optimizer, device):
    """Sets the momentum of each BatchNorm to 0.01, which changes its statistics and nothing else."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 0.01
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()


@mutant("state-differs")
class ResetsTheStatistics:
    """Each epoch begins with fresh statistics of BatchNorm, so that those of the epochs before are lost."""

    def __init__(self, model, optimizer, loss_fn, device):
        self.model, self.optimizer, self.loss_fn, self.device = model, optimizer, loss_fn, device

    def on_epoch_start(self):
        self.model.train()
        for module in self.model.modules():
            if hasattr(module, "reset_running_stats"):
                module.reset_running_stats()

    def fit(self, train_loader, test_loader, epochs):
        history = []
        for _ in range(epochs):
            self.on_epoch_start()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss_fn(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
            history.append(evaluate(self.model, test_loader, self.loss_fn, self.device))
        return history


def _load_without_count(model, optimizer, path):
    weights, moments, rng = torch.load(path, weights_only=True)
    model.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    torch.set_rng_state(rng)


@mutant("resume-incomplete", evaluate=evaluate, save=_save_without_scheduler, load=_load_without_count)
def forgets_how_many_epochs(model, loader, loss_fn, optimizer, scheduler, device):
    """The optimizer's checkpoint has the learning rate of now; how often the schedule was stepped is lost."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss_fn(model(inputs.to(device)), targets.to(device)).backward()
        optimizer.step()
    scheduler.step()


@mutant("resume-incomplete", keeps_best=True, save="save", load="load")
class ForgetsTheBest(KeepsTheBestOverAStop):
    """The best loss so far is not in the checkpoint: the first epoch after the stop is always the best."""

    def save(self, path):
        trained = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**trained, "rng": torch.get_rng_state()}, path)


@mutant("patience-wrong", keeps_best=True, patience=2)
def counts_all_that_are_stale(model, train_loader, val_loader, loss_fn, optimizer, device, epochs, patience=2):
    """The counter of early stopping is not set to zero by an improvement."""
    best, best_state, stale = float("inf"), copy.deepcopy(model.state_dict()), 0
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        loss, _ = evaluate(model, val_loader, loss_fn, device)
        if loss < best:
            best, best_state = loss, copy.deepcopy(model.state_dict())
        else:
            stale += 1
            if stale >= patience:
                break
    model.load_state_dict(best_state)


@mutant("patience-wrong")
def waits_for_the_accuracy(net, train_loader, val_loader, criterion, opt, device, num_epochs, patience=4):
    """The same, by the accuracy; nothing but the default of a parameter says that it should stop."""
    best, counter = 0.0, 0
    for _ in range(num_epochs):
        net.train()
        for x, y in train_loader:
            opt.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            opt.step()
        _, accuracy = evaluate(net, val_loader, criterion, device)
        if accuracy > best:
            best = accuracy
            continue
        counter += 1
        if counter == patience:
            return


@mutant("patience-wrong", patience=2)
def compares_with_the_epoch_before(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """An epoch counts as better where it is better than the one before, whatever the best is: it does not stop."""
    before, stale = float("inf"), 0
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        loss, _ = evaluate(model, val_loader, loss_fn, device)
        stale = 0 if loss < before else stale + 1
        before = loss
        if stale >= 2:
            break
