"""torch.compile: of the model, of the loss, of the step, with the backends that need no C++ compiler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tests.loops.correct.frameworks.quiet import quiet
from tests.loops.correct.registry import correct


@contextmanager
def compiling() -> Iterator[None]:
    """Forget at the end what was compiled, which holds the model and counts towards a limit."""
    with quiet():
        try:
            yield
        finally:
            torch.compiler.reset()


def train(forward, model, loader, optimizer, epochs):
    model.train()
    for _ in range(epochs):
        for inputs, labels in loader:
            optimizer.zero_grad()
            forward(inputs, labels).backward()
            optimizer.step()


@correct()
def model_traced(model, train_loader, loss_fn, optimizer, epochs):
    """The model through Dynamo alone."""
    with compiling():
        compiled = torch.compile(model, backend="eager")
        train(lambda x, y: loss_fn(compiled(x), y), model, train_loader, optimizer, epochs)


@correct()
def loss_differentiated_ahead(model, train_loader, loss_fn, optimizer, epochs):
    """Model and loss as one graph, and its backward pass as another."""

    @torch.compile(backend="aot_eager")
    def forward(x, y):
        return loss_fn(model(x), y)

    with compiling():
        train(forward, model, train_loader, optimizer, epochs)


@correct()
def step_traced(model, train_loader, loss_fn, optimizer, epochs):
    """The whole step, graph breaks and all."""

    @torch.compile(backend="eager")
    def step(x, y):
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    with compiling():
        model.train()
        for _ in range(epochs):
            for x, y in train_loader:
                step(x, y)
