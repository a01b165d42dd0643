"""A training in batches that processes cannot share evenly, for each process of the distributed engine, and for one."""

import torch
from torch import nn

from mnist_loop.model import MLP


class Batches:
    """Made-up images, in batches of 7 and a last one of a single image: shares of 4 and 3, and of 1 and none."""

    def __iter__(self):
        generator = torch.Generator().manual_seed(1)
        images = torch.rand(22, 1, 28, 28, generator=generator, dtype=torch.float64)
        labels = torch.randint(10, (22,), generator=generator)
        return iter(list(zip(images.split(7), labels.split(7), strict=True)))


def trained(engine, optimizer, epochs):
    """Train; return parameters, losses of the epochs, losses of the batches, and what evaluating gives."""
    torch.manual_seed(0)
    model = MLP(hidden_size=8).double()
    made = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}[optimizer](model.parameters(), lr=0.01)
    reported, loss_fn = [], nn.CrossEntropyLoss()
    engine.prepare(model, None, loss_fn, made, "cpu")
    losses = [
        engine.train_one_epoch(
            model, Batches(), loss_fn, made, "cpu", lambda batch, loss: reported.append((batch, loss.item()))
        )
        for _ in range(epochs)
    ]
    few = [(images[:1], labels[:1]) for images, labels in Batches()]
    evaluations = [engine.evaluate(model, loader, loss_fn, "cpu") for loader in (Batches(), few)]
    return (
        [parameter.detach() for parameter in model.parameters()],
        losses,
        reported,
        [(one.loss, one.accuracy) for one in evaluations],
    )
