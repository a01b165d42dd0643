"""Gradients of two batches, averaged into one step; what is left at the end makes a step of its own."""

from __future__ import annotations

from itertools import islice

import torch

from tests.loops.correct.registry import correct


@correct(accumulate=2)
def divides_by_the_window(model, loader, loss_fn, optimizer):
    """Each batch counts alike; a window at the end is divided by the batches that it has."""
    model.train()
    optimizer.zero_grad()
    batches = len(loader)
    for i, (x, y) in enumerate(loader):
        window = min(2, batches - i // 2 * 2)
        (loss_fn(model(x), y) / window).backward()
        if (i + 1) % 2 == 0 or i + 1 == batches:
            optimizer.step()
            optimizer.zero_grad()


@correct(accumulate=3)
def gathers_a_window(model, loader, loss_fn, optimizer):
    """The batches of a step are taken off the loader first."""
    model.train()
    batches = iter(loader)
    while window := list(islice(batches, 3)):
        optimizer.zero_grad()
        for x, y in window:
            loss_fn(model(x), y).div(len(window)).backward()
        optimizer.step()


@correct(accumulate=2)
def weighs_by_samples(model, loader, loss_fn, optimizer):
    """Each sample counts alike: the step is that of the two batches as one."""
    model.train()
    batches = iter(loader)
    while window := list(islice(batches, 2)):
        samples = sum(len(y) for _, y in window)
        optimizer.zero_grad()
        for x, y in window:
            loss = loss_fn(model(x), y)
            (loss * len(y) / samples).backward()
        optimizer.step()


@correct(accumulate=2)
def sums_then_divides(model, loader, loss_fn, optimizer):
    """The gradients are summed, and divided in place before the step."""
    model.train()
    pending = 0

    def step():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= pending
        optimizer.step()
        optimizer.zero_grad()

    for x, y in loader:
        loss_fn(model(x), y).backward()
        pending += 1
        if pending == 2:
            step()
            pending = 0
    if pending:
        step()


@correct(accumulate=2)
def one_backward_for_the_window(model, loader, loss_fn, optimizer):
    """The losses of the window are kept with their graphs, and their mean goes backward once."""
    model.train()
    losses = []

    def step():
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        losses.clear()

    for x, y in loader:
        losses.append(loss_fn(model(x), y))
        if len(losses) == 2:
            step()
    if losses:
        step()


@correct(accumulate=2, clip=1.0)
def clips_the_whole(model, loader, loss_fn, optimizer, epochs):
    """The gradient is clipped once it is complete."""
    model.train()
    for _ in range(epochs):
        batches = iter(loader)
        while window := list(islice(batches, 2)):
            for x, y in window:
                (loss_fn(model(x), y) / len(window)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()


@correct(accumulate=2, schedule="per-batch")
def steps_the_schedule_with_the_optimizer(model, loader, loss_fn, optimizer, scheduler, epochs):
    model.train()
    for _ in range(epochs):
        batches = iter(loader)
        while window := list(islice(batches, 2)):
            optimizer.zero_grad()
            for x, y in window:
                (loss_fn(model(x), y) / len(window)).backward()
            optimizer.step()
            scheduler.step()
