"""Learning-rate schedules, handed or the loop's own."""

from __future__ import annotations

import math

import torch
from torch.optim import lr_scheduler

from tests.loops.correct.plain import evaluate, train_one_epoch
from tests.loops.correct.registry import correct


@correct()
def after_each_epoch(model, train_loader, loss_fn, optimizer, scheduler, device, epochs):
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        scheduler.step()


@correct()
def after_the_validation(model, train_loader, val_loader, loss_fn, optimizer, lr_scheduler, device, epochs):
    """Training, evaluation, schedule; the learning rate that was used stands in the history."""
    history = []
    for _ in range(epochs):
        lr = optimizer.param_groups[0]["lr"]
        train_loss = train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        val_loss, _ = evaluate(model, val_loader, loss_fn, device)
        lr_scheduler.step()
        history.append({"lr": lr, "train_loss": train_loss, "val_loss": val_loss})
    return history


@correct(schedule="per-batch")
def after_each_batch(model, loader, loss_fn, optimizer, scheduler, epochs):
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
            scheduler.step()


@correct(schedule="per-batch")
def within_one_epoch(model, loader, loss_fn, optimizer, scheduler):
    """The function of one epoch steps the schedule itself."""
    model.train()
    for x, y in loader:
        loss_fn(model(x), y).backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


@correct()
def warms_up_from_zero(model, loader, loss_fn, optimizer, epochs):
    """The first step has a learning rate of 0: it moves no parameter, and is meant so."""
    base = [group["lr"] for group in optimizer.param_groups]
    step = 0
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = lr * min(1.0, step / 3)
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
            step += 1


@correct()
def warms_up_by_a_schedule(model, loader, loss_fn, optimizer, epochs):
    """The same by a LambdaLR of its own, which sets the rate of the first step when it is made."""
    warmup = lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 3))
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
            warmup.step()


@correct()
def cosine_by_hand(model, train_loader, loss_fn, optimizer, device, epochs):
    """No scheduler: the rate is written into the groups at the start of each epoch."""
    base = [group["lr"] for group in optimizer.param_groups]
    for epoch in range(epochs):
        factor = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * factor
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)


@correct()
def one_cycle(model, loader, loss_fn, optimizer, lr, epochs):
    """A schedule for the whole training, a step of it after each batch; it moves momentum or beta too."""
    schedule = lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=lr,
        total_steps=epochs * len(loader),
        cycle_momentum=any({"momentum", "betas"} & group.keys() for group in optimizer.param_groups),
    )
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
            schedule.step()


@correct()
def on_a_plateau(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """The rate falls when the validation loss no longer does."""
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    history = []
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        val_loss, _ = evaluate(model, val_loader, loss_fn, device)
        schedule.step(val_loss)
        history.append({"val_loss": val_loss})
    return history


@correct()
def two_schedules_at_once(model, train_loader, loss_fn, optimizer, device, epochs):
    """Half the rate for one epoch, and a decay all along, as torch chains them."""
    schedule = lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=1), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    )
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        schedule.step()


@correct(own_optimizer=True)
def decays_some_parameters(model, loader, loss_fn, lr, epochs):
    """Matrices decay, vectors do not: groups of its own."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=lr)
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()


@correct()
def after_each_step(model, train_loader, loss_fn, optimizer, scheduler, device):
    """The scheduler that was handed in was built for steps, which nothing says."""
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images.to(device)), labels.to(device)).backward()
        optimizer.step()
        scheduler.step()


@correct()
def on_a_plateau_of_the_accuracy(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """The rate falls when the validation accuracy no longer rises."""
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=0)
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        schedule.step(evaluate(model, val_loader, loss_fn, device)[1])


@correct()
def on_a_plateau_of_the_errors(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """The rate falls when the share of wrong answers no longer does."""
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    for _ in range(epochs):
        train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        schedule.step(1 - evaluate(model, val_loader, loss_fn, device)[1])


@correct()
def warms_up_and_decays_in_lines(model, train_loader, loss_fn, optimizer, device, epochs):
    """The rate rises for as many batches as there are epochs, and falls to the last one."""
    length = epochs * len(train_loader)
    rises = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=epochs)
    falls = lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.01, total_iters=length)
    for _ in range(epochs):
        model.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss_fn(model(images.to(device)), labels.to(device)).backward()
            optimizer.step()
            rises.step()
            falls.step()
