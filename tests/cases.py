"""The situations that the laws are tried in: small trainings, drawn by Hypothesis, each made anew from its seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.utils.data import DataLoader, TensorDataset

from mnist_loop.model import MLP, ProbeNet

Batch = tuple[Tensor, Tensor]

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": SGD,
    "SGD with momentum": lambda parameters, lr: SGD(parameters, lr=lr, momentum=0.9),
    "SGD with weight decay": lambda parameters, lr: SGD(parameters, lr=lr, weight_decay=0.1),
    "Adam": Adam,
    "AdamW": AdamW,
    "RMSprop": RMSprop,
}


@dataclass(frozen=True)
class Case:
    """A small training. Nothing in it is shared between two uses: each call makes its own.

    Attributes:
        seed: of the data and of the weights.
        samples: size of the data set.
        batch_size: 1 to beyond ``samples``.
        image_shape: shape of one image.
        hidden: width of the hidden layer.
        classes: number of classes.
        lr: learning rate.
        optimizer: a name in `OPTIMIZERS`.
        epochs: number of epochs.
    """

    seed: int
    samples: int
    batch_size: int
    image_shape: tuple[int, ...]
    hidden: int
    classes: int
    lr: float
    optimizer: str
    epochs: int

    @property
    def steps(self) -> int:
        """Number of batches in an epoch, the partial last one too."""
        return math.ceil(self.samples / self.batch_size)

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def dataset(self) -> TensorDataset:
        """Images of standard normal pixels in float64, and labels without relation to them."""
        generator = self.generator()
        images = torch.randn(self.samples, *self.image_shape, generator=generator, dtype=torch.float64)
        labels = torch.randint(self.classes, (self.samples,), generator=generator)
        return TensorDataset(images, labels)

    def loader(self, batch_size: int | None = None) -> DataLoader[Batch]:
        """Batches in a fixed order."""
        return DataLoader(self.dataset(), batch_size=batch_size or self.batch_size)  # type: ignore[arg-type]  # a tuple of two

    def model(self, device: torch.device | str = "cpu") -> MLP:
        """The lesson's MLP, in float64."""
        torch.manual_seed(self.seed)
        return MLP(math.prod(self.image_shape), self.hidden, self.classes).to(device, torch.float64)

    def probe(self, device: torch.device | str = "cpu") -> ProbeNet:
        """A model in which train mode and eval mode differ, in float64."""
        torch.manual_seed(self.seed)
        return ProbeNet(math.prod(self.image_shape), self.hidden, self.classes).to(device, torch.float64)

    def make_optimizer(self, model: nn.Module) -> Optimizer:
        return OPTIMIZERS[self.optimizer](model.parameters(), lr=self.lr)


# Large enough for every kind of batching, small enough that twenty-five of them take no time.
seeds = st.integers(0, 2**31 - 1)
sample_counts = st.integers(1, 24)
batch_sizes = st.integers(1, 30)
image_shapes = st.sampled_from([(1, 4, 4), (1, 2, 5), (3, 2, 2), (6,), (1, 1, 1)])
widths = st.integers(1, 8)
class_counts = st.integers(2, 5)
# Above 0.1 rounding errors may grow from step to step; below 0.001 a step is lost in the norm of the parameters.
learning_rates = st.floats(0.001, 0.1)

cases = st.builds(
    Case,
    seed=seeds,
    samples=sample_counts,
    batch_size=batch_sizes,
    image_shape=image_shapes,
    hidden=widths,
    classes=class_counts,
    lr=learning_rates,
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    epochs=st.integers(1, 3),
)

# BatchNorm has no variance to normalise by in a batch of one.
probe_cases = cases.filter(
    lambda case: case.samples % case.batch_size != 1 and case.batch_size > 1 and case.samples > 1
)

# Several steps, the last batch smaller than the others: where most bugs show.
stepping_cases = cases.filter(lambda case: case.steps > 1 and case.samples % case.batch_size != 0)
