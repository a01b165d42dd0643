"""Train and eval mode, in all the ways to switch them; frozen layers; what is left in the other mode on purpose."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import nn

from tests.loops.correct.registry import correct


@contextmanager
def mode_of(model, training):
    """Switch the mode, and put back that of every submodule."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield model
    finally:
        for module, mode in before.items():
            module.training = mode


@torch.inference_mode()
def evaluate_in_a_context(model, loader, loss_fn):
    with mode_of(model, False):
        sizes, losses = zip(*((len(y), len(y) * loss_fn(model(x), y).item()) for x, y in loader), strict=True)
    return {"loss": sum(losses) / sum(sizes)}


@correct(evaluate=evaluate_in_a_context)
def in_a_context(model, loader, loss_fn, optimizer):
    with mode_of(model, True):
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()


def evaluate_and_go_back(model, loader, loss_fn):
    """The mode afterwards is that before; gradients are off by `set_grad_enabled`."""
    was_training = model.training
    model.train(False)
    before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    try:
        total = sum(loss_fn(model(x), y).item() * len(y) for x, y in loader)
    finally:
        torch.set_grad_enabled(before)
        model.train(was_training)
    return total / len(loader.dataset)


@correct(evaluate=evaluate_and_go_back)
def validates_between_batches(model, train_loader, val_loader, loss_fn, optimizer):
    """A validation every second step, after which training goes on in train mode."""
    model.train()
    losses = []
    for step, (x, y) in enumerate(train_loader):
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()
        if step % 2 == 1:
            losses.append(evaluate_and_go_back(model, val_loader, loss_fn))
    return {"val_loss": losses}


@correct()
def sets_the_mode_each_batch(model, loader, loss_fn, optimizer):
    for x, y in loader:
        model.train()
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()


@correct(frozen=("hidden",))
def freezes(model, loader, loss_fn, optimizer):
    """The hidden layers are held fixed: no gradient, and in eval mode, so that BatchNorm stays as it is."""
    for parameter in model.hidden.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    model.train()
    model.hidden.eval()
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()


@correct(frozen=("hidden",))
def trains_the_head(model, train_loader, loss_fn, optimizer, epochs):
    """The same without touching a flag: features without gradient in eval mode, and only the head's go to the step."""
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    for _ in range(epochs):
        model.eval()
        model.head.train()
        for x, y in train_loader:
            optimizer.zero_grad(set_to_none=True)
            loss_fn(model(x), y).backward()
            optimizer.step()


@correct(trains_in_eval_mode=True)
def fine_tunes_in_eval_mode(model, loader, loss_fn, optimizer):
    """All layers learn, on the statistics that they have, without dropout."""
    model.eval()
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()


@correct(trains_in_eval_mode=True)
def keeps_batch_norm_in_eval_mode(model, train_loader, loss_fn, optimizer, epochs):
    """Small batches, so BatchNorm keeps its statistics; the rest trains as usual."""
    for _ in range(epochs):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()


@torch.no_grad()
def evaluate_with_dropout(model, loader, loss_fn):
    """Monte Carlo dropout: the mean of four draws, all else in eval mode."""
    model.eval()
    dropouts = [module for module in model.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    for module in dropouts:
        module.train()
    total, count = 0.0, 0
    for x, y in loader:
        outputs = torch.stack([model(x) for _ in range(4)]).mean(dim=0)
        total += loss_fn(outputs, y).item() * len(y)
        count += len(y)
    for module in dropouts:
        module.eval()
    return total / count


@correct(evaluate=evaluate_with_dropout, dropout_at_inference=True)
def draws_at_inference(model, loader, loss_fn, optimizer):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()


@correct()
def looks_before_it_trains(model, train_loader, val_loader, loss_fn, optimizer, epochs):
    """An evaluation before the first epoch, as a sanity check."""
    history = [evaluate_and_go_back(model, val_loader, loss_fn)]
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
        history.append(evaluate_and_go_back(model, val_loader, loss_fn))
    return history


@correct()
def measures_on_the_training_data(model, train_loader, loss_fn, optimizer, epochs):
    """After each epoch the training data once more, in eval mode and without gradients."""
    history = []
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
        history.append({"train_loss": evaluate_in_a_context(model, train_loader, loss_fn)["loss"]})
    return history
