"""What a training ends with: its best state, where it stopped, the average of its weights."""

from __future__ import annotations

import copy
import io

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.data import DataLoader, random_split

from tests.loops.correct.plain import evaluate, train_one_epoch
from tests.loops.correct.registry import correct


@correct(keeps_best=True)
def loads_the_best(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """The state of the lowest validation loss, copied when it was reached, loaded at the end."""
    best_loss, best_state = float("inf"), None
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        val_loss, _ = evaluate(model, val_loader, loss_fn, device)
        if val_loss < best_loss:
            best_loss, best_state = val_loss, copy.deepcopy(model.state_dict())
    if best_state is not None:
        model.load_state_dict(best_state)


@correct(keeps_best=True)
def returns_the_best(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """Copies of the tensors, returned; the model itself is left as the last epoch made it."""
    best_loss, best_state = float("inf"), {}
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        val_loss, _ = evaluate(model, val_loader, loss_fn, device)
        if val_loss < best_loss:
            best_loss = val_loss
            best_state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    return best_state


@correct(keeps_best=True)
def saves_the_best(model, train_loader, valid_loader, criterion, optimizer, device, n_epochs):
    """Written as to a file, and read back."""
    best = None
    file = io.BytesIO()
    for _ in range(n_epochs):
        train_one_epoch(model, train_loader, criterion, optimizer, device)
        valid_loss, _ = evaluate(model, valid_loader, criterion, device)
        if best is None or valid_loss < best:
            best = valid_loss
            file.seek(0)
            file.truncate()
            torch.save(model.state_dict(), file)
    file.seek(0)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model


@correct()
def stops_early(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """No patience: the first epoch that is no better is the last, and its weights are kept."""
    history, best = [], float("inf")
    for epoch in range(epochs):
        train_loss = train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        val_loss, _ = evaluate(model, val_loader, loss_fn, device)
        history.append({"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss})
        if val_loss >= best:
            break
        best = val_loss
    return history


@correct(keeps_best=True)
def stops_early_and_goes_back(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    best, best_state, patience = float("inf"), None, 1
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        val_loss, _ = evaluate(model, val_loader, loss_fn, device)
        if val_loss < best:
            best, best_state, patience = val_loss, copy.deepcopy(model.state_dict()), 1
        else:
            patience -= 1
        if patience == 0:
            break
    if best_state is not None:
        model.load_state_dict(best_state)
    return {"best_val_loss": best}


@correct()
def tests_once(model, train_loader, val_loader, test_loader, loss_fn, optimizer, device, epochs):
    """The test data have one use, at the end."""
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        evaluate(model, val_loader, loss_fn, device)
    test_loss, test_accuracy = evaluate(model, test_loader, loss_fn, device)
    return {"test_loss": test_loss, "test_accuracy": test_accuracy}


@correct(average=0.9)
def averages_parameters(model, loader, loss_fn, optimizer, epochs):
    """Return a copy: w <- 0.9 w + 0.1 p from the initial parameters on; the buffers are those of the model."""
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
            with torch.no_grad():
                for average, parameter in zip(averaged.parameters(), model.parameters(), strict=True):
                    average.mul_(0.9).add_(parameter, alpha=0.1)
                for copied, buffer in zip(averaged.buffers(), model.buffers(), strict=True):
                    copied.copy_(buffer)
    return averaged


@correct(average=0.5)
def averages_with_torch(model, loader, loss_fn, optimizer, epochs):
    """The AveragedModel of torch, which begins with a copy of the first step's weights and averages the buffers too."""
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
            averaged.update_parameters(model)
    return averaged.module


@correct(average=0.9)
def averages_the_state(model, loader, loss_fn, optimizer):
    """A state dict: its floating entries averaged, the others copied."""
    averaged = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                averaged[name].lerp_(value, 0.1)
            else:
                averaged[name].copy_(value)
    return averaged


@correct(average=0.9)
def averages_the_state_of_a_copy(model, train_loader, criterion, optimizer, epochs):
    """The entries of the copy's state dict, in place; tied weights are two entries of it."""
    averaged = copy.deepcopy(model).eval()
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
            state = model.state_dict()
            for name, value in averaged.state_dict().items():
                if value.dtype.is_floating_point:
                    value.mul_(0.9).add_(state[name], alpha=0.1)
                else:
                    value.copy_(state[name])
    return averaged


@correct()
def evaluates_averaged_weights(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """Averaged weights are put in for each validation, and taken out again."""
    average = copy.deepcopy(model.state_dict())
    for _ in range(epochs):
        model.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss_fn(model(images.to(device)), labels.to(device)).backward()
            optimizer.step()
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 0.1) if value.is_floating_point() else average[name].copy_(value)
        own = copy.deepcopy(model.state_dict())
        model.load_state_dict(average)
        evaluate(model, val_loader, loss_fn, device)
        model.load_state_dict(own)


@correct()
def holds_a_part_out(model, train_set, loss_fn, optimizer, device, epochs, batch_size):
    """A fifth of the training set is for validation, and no epoch has it."""
    held_out = max(len(train_set) // 5, 1)
    train_part, val_part = random_split(train_set, [len(train_set) - held_out, held_out])
    if len(train_part) == 0:
        return
    train_loader = DataLoader(train_part, batch_size, shuffle=True)
    val_loader = DataLoader(val_part, batch_size)
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        evaluate(model, val_loader, loss_fn, device)


@correct(keeps_best=True, save="save", load="load")
class KeepsTheBestOverAStop:
    """The best loss and its state are in the checkpoint."""

    def __init__(self, model, train_loader, val_loader, loss_fn, optimizer, device):
        self.model, self.loss_fn, self.optimizer, self.device = model, loss_fn, optimizer, device
        self.train_loader, self.val_loader = train_loader, val_loader
        self.best, self.best_state = float("inf"), None

    def train_epoch(self):
        train_one_epoch(self.model, self.train_loader, self.loss_fn, self.optimizer, self.device)
        loss, _ = evaluate(self.model, self.val_loader, self.loss_fn, self.device)
        if loss < self.best:
            self.best, self.best_state = loss, copy.deepcopy(self.model.state_dict())
        return self.best_state

    def save(self, path):
        trained = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**trained, "rng": torch.get_rng_state(), "best": self.best, "best_state": self.best_state}, path)

    def load(self, path):
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        self.best, self.best_state = state.get("best", self.best), state.get("best_state", self.best_state)


@correct(keeps_best=True, patience=3)
def stops_after_a_while(model, train_loader, val_loader, loss_fn, optimizer, device, epochs, patience=3):
    """Early stopping whose counter an improvement sets to zero."""
    best, best_state, stale = float("inf"), copy.deepcopy(model.state_dict()), 0
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        loss, _ = evaluate(model, val_loader, loss_fn, device)
        if loss < best:
            best, best_state, stale = loss, copy.deepcopy(model.state_dict()), 0
        elif (stale := stale + 1) >= patience:
            break
    model.load_state_dict(best_state)


@correct(patience=1)
class StopsByAccuracy:
    """Early stopping by the accuracy, with a least improvement: more epochs without one than the patience."""

    def __init__(self, model, train_loader, val_loader, criterion, optimizer, device, patience=1, min_delta=1e-3):
        self.model, self.criterion, self.optimizer, self.device = model, criterion, optimizer, device
        self.train_loader, self.val_loader = train_loader, val_loader
        self.patience, self.min_delta = patience, min_delta

    def fit(self, epochs):
        best, last_improvement = 0.0, 0
        for epoch in range(epochs):
            train_one_epoch(self.model, self.train_loader, self.criterion, self.optimizer, self.device)
            _, accuracy = evaluate(self.model, self.val_loader, self.criterion, self.device)
            if accuracy > best + self.min_delta:
                best, last_improvement = accuracy, epoch
            if epoch - last_improvement > self.patience:
                return


@correct()
def stops_by_the_training_loss(model, train_loader, val_loader, loss_fn, optimizer, device, epochs, patience=2):
    """What is watched is the loss of the training; the validation is for the log."""
    best, stale = float("inf"), 0
    for _ in range(epochs):
        loss = train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        evaluate(model, val_loader, loss_fn, device)
        best, stale = (loss, 0) if loss <= best else (best, stale + 1)
        if stale > patience:
            break


@correct()
def evaluates_the_average(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """update_bn gives BatchNorm the statistics of the averaged weights before they are evaluated."""
    averaged = AveragedModel(model)
    losses = []
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        averaged.update_parameters(model)
        update_bn(train_loader, averaged)
        losses.append(evaluate(averaged, val_loader, loss_fn, device)[0])
    return losses


@correct()
def evaluates_an_average_with_its_buffers(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """The buffers of the moving average are those of the model."""
    average = copy.deepcopy(model)
    losses = []
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        with torch.no_grad():
            for mean, parameter in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(parameter, 0.1)
            for mean, buffer in zip(average.buffers(), model.buffers(), strict=True):
                mean.copy_(buffer)
        losses.append(evaluate(average, val_loader, loss_fn, device)[0])
    return losses


@correct()
def compares_with_the_start(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """A copy of the model as it was handed over is evaluated beside the one that is trained."""
    before = copy.deepcopy(model)
    gains = []
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        gains.append(evaluate(before, val_loader, loss_fn, device)[0] - evaluate(model, val_loader, loss_fn, device)[0])
    return gains
