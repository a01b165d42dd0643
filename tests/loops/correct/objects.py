"""Loops that are no plain function: classes, objects, closures, generators, callbacks."""

from __future__ import annotations

from functools import partial

import torch

from tests.loops.correct.registry import correct


@correct()
class Trainer:
    """All that it needs is handed to the constructor; `fit` trains."""

    def __init__(self, model, train_loader, val_loader, criterion, optimizer, device, epochs):
        self.model, self.criterion, self.optimizer = model, criterion, optimizer
        self.train_loader, self.val_loader = train_loader, val_loader
        self.device, self.epochs = device, epochs
        self.history = []

    def fit(self):
        for _ in range(self.epochs):
            self.history.append({"train_loss": self._run_epoch(), "val_loss": self._validate()})
        return self.history

    def _run_epoch(self):
        self.model.train()
        total, count = 0.0, 0
        for inputs, labels in self.train_loader:
            inputs, labels = inputs.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(inputs), labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(labels)
            count += len(labels)
        return total / count

    @torch.no_grad()
    def _validate(self):
        self.model.eval()
        total, count = 0.0, 0
        for inputs, labels in self.val_loader:
            inputs, labels = inputs.to(self.device), labels.to(self.device)
            total += self.criterion(self.model(inputs), labels).item() * len(labels)
            count += len(labels)
        return total / count


@correct()
class Estimator:
    """The model goes to the constructor, the data to `fit`, as in scikit-learn."""

    def __init__(self, model, loss_fn, optimizer):
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer

    def fit(self, train_loader, epochs):
        self.model.train()
        for _ in range(epochs):
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss_fn(self.model(x), y).backward()
                self.optimizer.step()
        return self


@correct()
class Stepper:
    """One epoch a call of `train`; the step is a method of its own."""

    def __init__(self, net, opt, loss_fn):
        self.net, self.opt, self.loss_fn = net, opt, loss_fn

    def _step(self, x, y):
        self.opt.zero_grad()
        loss = self.loss_fn(self.net(x), y)
        loss.backward()
        self.opt.step()
        return loss.item()

    def train(self, loader):
        self.net.train()
        sums = [(self._step(x, y) * len(y), len(y)) for x, y in loader]
        return sum(total for total, _ in sums) / sum(count for _, count in sums)


class CallableLoop:
    """An object that is called."""

    def __call__(self, model, loader, loss_fn, optimizer):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()


called = correct(name="called")(CallableLoop())


class FittingObject:
    """An object with `fit` and `evaluate`, made beforehand with its settings."""

    def __init__(self, verbose):
        self.verbose = verbose

    def fit(self, model, train_loader, loss_fn, optimizer, epochs):
        for epoch in range(epochs):
            model.train()
            for x, y in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(x), y)
                loss.backward()
                optimizer.step()
            if self.verbose:
                print(f"epoch {epoch}: {loss.item():.3f}")  # noqa: T201  # it is a loop that prints

    @torch.no_grad()
    def evaluate(self, model, loader, loss_fn):
        model.eval()
        return sum(loss_fn(model(x), y).item() * len(y) for x, y in loader) / len(loader.dataset)


fitting = correct(name="fitting")(FittingObject(verbose=True))


def make_train(clear_first):
    """Make a loop: a closure over how it clears."""

    def train(model, loader, loss_fn, optimizer):
        model.train()
        for x, y in loader:
            if clear_first:
                optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
            if not clear_first:
                optimizer.zero_grad()

    return train


closure = correct(name="closure")(make_train(clear_first=True))
other_closure = correct(name="other_closure")(make_train(clear_first=False))


def train_with_options(model, loader, loss_fn, optimizer, *, set_to_none, verbose):
    model.train()
    for x, y in loader:
        optimizer.zero_grad(set_to_none=set_to_none)
        loss_fn(model(x), y).backward()
        optimizer.step()
    return "done" if verbose else None


partially_applied = correct(name="partially_applied")(partial(train_with_options, set_to_none=False, verbose=True))


@correct()
def step_function(model, loader, loss_fn, optimizer):
    """As in TensorFlow's and JAX's guides: the step is made first and applied to each batch."""

    def make_step(model, loss_fn, optimizer):
        def step(x, y):
            model.train()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.item()

        return step

    step = make_step(model, loss_fn, optimizer)
    return [step(x, y) for x, y in loader]


@correct()
def pipeline_of_generators(model, loader, loss_fn, optimizer):
    """Each stage is a generator; what draws on the last one makes the steps happen, one batch after the other."""

    def forward(batches):
        for x, y in batches:
            yield loss_fn(model(x), y), len(y)

    def update(losses):
        for loss, size in losses:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.detach(), size

    model.train()
    total = count = 0
    for loss, size in update(forward(loader)):
        total += loss.item() * size
        count += size
    return total / count


@correct()
def callbacks(model, train_loader, loss_fn, optimizer, epochs):
    """The loop knows three events, and a list of functions for each; they share one dict."""
    state = {}

    def forward():
        state["loss"] = loss_fn(model(state["x"]), state["y"])

    def backward():
        state.pop("loss").backward()

    events = {
        "epoch starts": [model.train],
        "batch": [optimizer.zero_grad, forward, backward, optimizer.step],
        "epoch ends": [state.clear],
    }

    def fire(event):
        for callback in events[event]:
            callback()

    for _ in range(epochs):
        fire("epoch starts")
        for state["x"], state["y"] in train_loader:
            fire("batch")
        fire("epoch ends")


@correct()
def options_with_defaults(loader, model, optimizer, loss_fn, device="cpu", verbose=False, log_every=10):
    """Options with defaults, which nobody hands it."""
    model.to(device).train()
    for i, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        loss = loss_fn(model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()
        if verbose and i % log_every == 0:
            print(loss.item())  # noqa: T201  # where it is asked to
