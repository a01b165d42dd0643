"""Lightning Fabric: a loop of one's own on a model, an optimizer and loaders that Fabric has set up."""

from __future__ import annotations

import torch

from tests.loops.correct.frameworks.quiet import quiet
from tests.loops.correct.registry import correct


def train(model, train_loader, val_loader, loss_fn, optimizer, epochs, clip=None):
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    model, optimizer = fabric.setup(model, optimizer)
    train_loader, val_loader = fabric.setup_dataloaders(train_loader, val_loader)
    history = []
    for _ in range(epochs):
        model.train()
        for inputs, labels in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(inputs), labels)
            fabric.backward(loss)
            if clip is not None:
                fabric.clip_gradients(model, optimizer, max_norm=clip)
            optimizer.step()

        model.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for inputs, labels in val_loader:
                total += loss_fn(model(inputs), labels).item() * len(labels)
                count += len(labels)
        history.append({"val_loss": total / count})
    return history


@correct(needs="lightning")
def full_precision(model, train_loader, val_loader, loss_fn, optimizer, epochs):
    with quiet():
        return train(model, train_loader, val_loader, loss_fn, optimizer, epochs)


@correct(needs="lightning", clip=1.0)
def clips(model, train_loader, val_loader, loss_fn, optimizer, epochs):
    with quiet():
        return train(model, train_loader, val_loader, loss_fn, optimizer, epochs, clip=1.0)
