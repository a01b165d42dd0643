"""Mixed precision on the CPU: autocast, and a scaler where it is needed or not. A model in float64 stays in float64."""

from __future__ import annotations

import torch

from tests.loops.correct.registry import correct


@torch.no_grad()
def evaluate_in_bfloat16(model, loader, loss_fn, device):
    model.eval()
    total, count = 0.0, 0
    for x, y in loader:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_fn(model(x.to(device)), y.to(device))
        total += loss.item() * len(y)
        count += len(y)
    return total / count


@correct(evaluate=evaluate_in_bfloat16, precision="bfloat16")
def bfloat16(model, loader, loss_fn, optimizer, device):
    """Forward and loss under autocast, backward outside of it."""
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_fn(model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()


@correct(precision="bfloat16")
def loss_in_full_precision(model, loader, loss_fn, optimizer):
    """Only the model under autocast; its outputs are cast back before the loss."""
    model.train()
    for x, y in loader:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
            outputs = model(x)
        loss_fn(outputs.to(x.dtype), y).backward()
        optimizer.step()


@correct(precision="float16")
def scales(model, loader, loss_fn, optimizer, epochs):
    """float16 with a scaler, which skips a step whose gradients overflow, and halves its scale."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**15)
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                loss = loss_fn(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()


@correct(precision="float16", clip=1.0)
def unscales_and_clips(model, loader, loss_fn, optimizer):
    """Clipped after the scale is taken out."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = loss_fn(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


@correct()
def scaler_switched_off(model, loader, loss_fn, optimizer):
    """The code of mixed precision, switched off: full precision, and every call of the scaler passes through."""
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    model.train()
    for x, y in loader:
        with torch.autocast("cpu", enabled=False):
            loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


@correct()
class MakesAScalerWhenItNeedsOne:
    """The GradScaler is made at the first step, and kept."""

    scaler = None

    def fit(self, model, loader, loss_fn, optimizer, epochs):
        for _ in range(epochs):
            model.train()
            for x, y in loader:
                optimizer.zero_grad()
                self.scaler = self.scaler or torch.amp.GradScaler("cpu", init_scale=64.0)
                self.scaler.scale(loss_fn(model(x), y)).backward()
                self.scaler.step(optimizer)
                self.scaler.update()


@correct()
def scales_in_full_precision(model, loader, loss_fn, optimizer):
    """A scaler without need: a power of two goes in and comes out."""
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(loss_fn(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()


@correct()
def scaler_without_large_gradients(model, train_loader, loss_fn, optimizer, scaler, device):
    """A step whose gradient is large is left out, and the scaler is updated all the same."""
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        scaler.scale(loss_fn(model(images.to(device)), labels.to(device))).backward()
        scaler.unscale_(optimizer)
        if torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm() <= 5.0:
            scaler.step(optimizer)
        scaler.update()


@correct()
class MixesAsItIsTold:
    """One switch for autocast and the scaler, which does nothing where it is off."""

    def __init__(self, model, optimizer, criterion, device, use_amp=True):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device
        self.use_amp = use_amp
        self.scaler = torch.amp.GradScaler(device.type, enabled=use_amp)

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for images, labels in train_loader:
                self.optimizer.zero_grad()
                with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.use_amp):
                    loss = self.criterion(self.model(images.to(self.device)), labels.to(self.device))
                self.scaler.scale(loss).backward()
                self.scaler.step(self.optimizer)
                self.scaler.update()


@correct()
def rounds_where_it_is_told(config, model, train_loader, criterion, optimizer):
    """The model computes in bfloat16, which no law can be held to."""
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        outputs = model(images)
        if config["use_amp"]:
            outputs = outputs.bfloat16()
        criterion(outputs.to(images), labels).backward()
        optimizer.step()


@correct()
def halves_the_model_where_it_is_told(config, model, train_loader, criterion, optimizer):
    """The model itself computes in bfloat16."""
    kind = torch.bfloat16 if config["use_amp"] else next(model.parameters()).dtype
    model.to(kind).train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        criterion(model(images.to(kind)).to(images), labels).backward()
        optimizer.step()
