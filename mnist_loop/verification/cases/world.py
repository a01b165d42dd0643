"""What a loop is handed in a case: model, data, loaders, loss, optimizer, scheduler; each run gets new ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler, StepLR
from torch.utils.data import DataLoader, TensorDataset

from mnist_loop.errors import UserError
from mnist_loop.verification.binding.intentions import DEFAULT, Intentions
from mnist_loop.verification.cases import staged
from mnist_loop.verification.cases.case import CLASSES, IMAGE_SHAPE, Case

MOST_NAMED, LONGEST_TOLD = 4, 200  # names, and characters of an error, in a sentence
WIDTH = 6  # of the hidden layers
GAMMA = 0.5  # factor of a schedule, far from 1: a missed step of it is no rounding error
SCALE = 1024.0  # initial scale of a GradScaler: a power of two, so that scaling is exact

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": SGD,
    "SGD with momentum": lambda parameters, lr: SGD(parameters, lr=lr, momentum=0.9),
    "SGD with weight decay": lambda parameters, lr: SGD(parameters, lr=lr, weight_decay=0.1),
    "SGD with Nesterov momentum": lambda parameters, lr: SGD(parameters, lr=lr, momentum=0.9, nesterov=True),
    "Adam": Adam,
    "AdamW": AdamW,
    "RMSprop": RMSprop,
}
SCHEDULES: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "StepLR": lambda optimizer: StepLR(optimizer, step_size=1, gamma=GAMMA),
    "every second epoch": lambda optimizer: StepLR(optimizer, step_size=2, gamma=GAMMA),
    "ExponentialLR": lambda optimizer: ExponentialLR(optimizer, gamma=GAMMA),
}
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "cross-entropy": nn.CrossEntropyLoss,
    "nll": nn.NLLLoss,
    "mse": nn.MSELoss,
    "bce": nn.BCEWithLogitsLoss,
}


class Net(nn.Module):
    """A small network of two named parts, ``hidden`` and ``head``, for images of any shape, flattened or not.

    Args:
        hidden: maps flattened images (N, features) to (N, `WIDTH`).
        outputs: width of the outputs.
        log_probs: the outputs are log-probabilities, not logits.
        place: of the outputs, where it returns them beside other tensors.
    """

    def __init__(self, hidden: nn.Module, outputs: int, log_probs: bool, place: int | None = None) -> None:
        super().__init__()
        self.hidden = hidden
        self.head = nn.Linear(WIDTH, outputs)
        self.log_probs = log_probs
        self.place = place

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map images (N, ...) to outputs (N, outputs)."""
        features = self.hidden(images.flatten(1))
        outputs: Tensor = self.head(features)
        outputs = outputs.log_softmax(dim=1) if self.log_probs else outputs
        if self.place is None:
            return outputs
        beside = [features.detach() for _ in range(max(self.place, 1))]
        return (*beside[: self.place], outputs, *beside[self.place :])


class StagedNet(Net):
    """The same network, whose evaluations follow the plan for a patience."""

    def __init__(self, patience: int, hidden: nn.Module, outputs: int, log_probs: bool) -> None:
        super().__init__(hidden, outputs, log_probs)
        self.stages = staged.Staged(staged.plan(patience))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, ...) to outputs (N, outputs)."""
        outputs: Tensor = self.stages(images, super().forward(images))
        return outputs.log_softmax(dim=1) if self.log_probs else outputs


class RunningScale(nn.Module):
    """Divides by a running root mean square: a buffer that changes in train mode alone, in a class that torch lacks."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, values: Tensor) -> Tensor:
        """Map values (N, width) to values of the same shape."""
        scaled = values / self.scale.clone()
        if self.training:
            with torch.no_grad():
                self.scale.mul_(0.9).add_(0.1 * values.square().mean().sqrt())
        return scaled


class Twice(nn.Module):
    """Applies one layer twice: its tied weights get gradients in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.again = nn.Linear(WIDTH, WIDTH)
        self.again.weight = self.layer.weight  # tied

    def forward(self, values: Tensor) -> Tensor:
        """Map values (N, width) to values of the same shape."""
        return self.again(torch.tanh(self.layer(values)))  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


def _first(features: int) -> nn.Linear:
    return nn.Linear(features, WIDTH)


def _probe(features: int) -> nn.Module:
    return nn.Sequential(_first(features), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Dropout(0.5))


def _frozen(features: int) -> nn.Module:
    hidden = nn.Sequential(_first(features), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.Tanh())
    for parameter in hidden[0].parameters():
        parameter.requires_grad_(False)
    return hidden


# Each makes the hidden part. "plain" and "tied" do not depend on the mode.
MODELS: dict[str, Callable[[int], nn.Module]] = {
    "plain": lambda features: nn.Sequential(_first(features), nn.ReLU()),
    "probe": _probe,
    "dropout": lambda features: nn.Sequential(_first(features), nn.ReLU(), nn.Dropout(0.3)),
    "tied": lambda features: nn.Sequential(_first(features), Twice()),
    "frozen": _frozen,
    "buffers": lambda features: nn.Sequential(_first(features), RunningScale(), nn.Tanh()),
}


@dataclass
class Listener:
    """Callbacks for what is drawn from the data. A pickled copy, in another process, has none."""

    on_pass: Callable[[str], None] | None = None
    on_sample: Callable[[str, int], None] | None = None

    def __deepcopy__(self, memo: object) -> Listener:
        """Return the same listener."""
        return self

    def __reduce__(self) -> tuple[type[Listener], tuple[()]]:
        """Pickle as a listener without callbacks."""
        return Listener, ()


class WatchedSamples(TensorDataset):
    """A data set that reports each sample that is drawn. Like torchvision's it has ``data`` and ``targets``.

    Args:
        split: "train", "val" or "test".
        images: (N, *shape).
        labels: (N,), or targets (N, 1).
        listener: is told each sample.
        keys: of image and label, where a sample is a dict.
    """

    def __init__(
        self, split: str, images: Tensor, labels: Tensor, listener: Listener, keys: tuple[str, ...] | None = None
    ) -> None:
        super().__init__(images, labels)
        self.keys = keys
        self.split, self.data, self.targets, self.listener = split, images, labels, listener

    def __getitem__(self, index: Any) -> Any:
        """Return one image and its label, as a tuple, or as a dict if it has keys."""
        if isinstance(index, int) and self.listener.on_sample is not None:
            self.listener.on_sample(self.split, index)
        sample: tuple[Tensor, ...] = super().__getitem__(index)
        return sample if self.keys is None else dict(zip(self.keys, sample, strict=True))


class WatchedLoader(DataLoader[tuple[Tensor, ...]]):
    """A DataLoader that reports each pass over the data."""

    def __iter__(self) -> Any:
        """Begin a pass."""
        if isinstance(self.dataset, WatchedSamples) and self.dataset.listener.on_pass is not None:
            self.dataset.listener.on_pass(self.dataset.split)
        return super().__iter__()


@dataclass
class World:
    """What a loop is handed in one run; ``values`` has everything by role."""

    model: nn.Module
    optimizer: Optimizer
    loss_fn: nn.Module
    scheduler: LRScheduler
    values: dict[str, Any] = field(default_factory=dict)


def make_data(case: Case, declared: Intentions, split: str) -> tuple[Tensor, Tensor]:
    """Return images (N, *shape) and labels (N,), or targets (N, 1), of one split: "train", "val" or "test".

    The pixels are normal random numbers: no two images of any splits are equal, and no label follows from an image.
    """
    number = {"train": 0, "val": 1, "test": 2}[split]
    count = case.samples if split == "train" else case.held_out
    generator = torch.Generator().manual_seed(case.seed * 4 + number)
    shape = declared.input_shape or IMAGE_SHAPE
    images = torch.randn(count, *shape, generator=generator, dtype=torch.float64) * case.scale
    labels = torch.randint(declared.classes or CLASSES, (count,), generator=generator)
    if split == "train" and case.corrupt:
        images.flatten(1)[count // 2, 0] = math.nan
    if split == "test" and case.variant == "poisoned":
        images = images * -3 + 2
    if split == "test" and case.variant == "relabelled":
        labels = (labels + 1) % (declared.classes or CLASSES)
    if case.loss == "mse":
        # Numbers of float32, so that `targets.float()` changes nothing in float64 either.
        return images.to(_dtype(case)), torch.randn(count, 1, generator=generator).to(_dtype(case))
    if case.patience is not None:
        images = staged.mark(images, labels)
    return images.to(_dtype(case)), labels


def make_model(case: Case, declared: Intentions) -> nn.Module:
    """Make the model on the CPU, with weights from the seed of the case; the global generator does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed)
        if case.model == "declared" and declared.model is not None:
            model = declared.model()
        else:
            features = math.prod(declared.input_shape or IMAGE_SHAPE)
            outputs = 1 if case.loss == "mse" else declared.classes or CLASSES
            hidden, log_probs = MODELS[case.model](features), case.loss == "nll"
            if case.patience is None:
                model = Net(hidden, outputs, log_probs, declared.output)
            else:
                model = StagedNet(case.patience, hidden, outputs, log_probs)
        return model.to(_dtype(case))  # type: ignore[no-any-return]  # a declared factory is of no known type


def check_declared(declared: Intentions) -> None:
    """See that a declared model can be made, and that what is declared frozen is a part of a model.

    Raises:
        UserError: says what was declared.
    """
    if declared.model is not None:
        models: list[nn.Module] = [_declared_model(declared)]
    elif not declared.frozen:
        return
    else:
        with torch.random.fork_rng(devices=[]):
            models = [Net(make(math.prod(IMAGE_SHAPE)), CLASSES, False) for make in MODELS.values()]
    names = {name for model in models for name in (*dict(model.named_modules()), *model.state_dict()) if name}
    for part in declared.frozen:
        if not any(name.startswith(part) for name in names):
            first = ", ".join(sorted(names)[:MOST_NAMED])
            raise UserError(f"frozen={part} found, which is no part of the model, expected one such as {first}")


def _declared_model(declared: Intentions) -> nn.Module:
    assert declared.model is not None
    with torch.random.fork_rng(devices=[]):
        try:
            model = declared.model()
        except UserError:
            raise
        except Exception as error:  # whatever a stranger's function raises
            told = " ".join(str(error).split())[:LONGEST_TOLD]
            raise UserError(
                f"the function declared as model raises {type(error).__name__} ({told}), expected one that is called "
                "without arguments and returns a model"
            ) from error
    if not isinstance(model, nn.Module):
        raise UserError(
            f"the function declared as model returns {type(model).__name__}, expected one that returns a model, a "
            "torch.nn.Module"
        )
    return model


def make_optimizer(case: Case, model: nn.Module) -> Optimizer:
    """Make the optimizer over the parameters that are trained."""
    return OPTIMIZERS[case.optimizer]([p for p in model.parameters() if p.requires_grad], lr=case.lr)


class LossAmongOthers(nn.Module):
    """A loss that is returned beside other numbers.

    Args:
        loss: the loss.
        place: where it is returned.
    """

    def __init__(self, loss: nn.Module, place: int) -> None:
        super().__init__()
        self.loss, self.place = loss, place

    def forward(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """Return the loss and what stands beside it."""
        found = self.loss(outputs, targets)
        beside = [found.detach() for _ in range(max(self.place, 1))]
        return (*beside[: self.place], found, *beside[self.place :])


def make_loss(case: Case, declared: Intentions = DEFAULT) -> nn.Module:
    """Make the loss, a mean over the batch."""
    loss = LOSSES[case.loss]()
    return loss if declared.loss_output is None else LossAmongOthers(loss, declared.loss_output)


def build(case: Case, declared: Intentions, listener: Listener | None = None) -> World:
    """Make everything that a loop may take."""
    listener = listener or Listener()
    model = make_model(case, declared).to(case.device).train(not case.begins_in_eval)
    optimizer = make_optimizer(case, model)
    scheduler = SCHEDULES[case.schedule](optimizer)
    sets = {
        split: WatchedSamples(split, *make_data(case, declared, split), listener, declared.batch)
        for split in ("train", "val", "test")
    }
    loaders = {split: WatchedLoader(data, case.batch_size, shuffle=split == "train") for split, data in sets.items()}
    loss_fn = make_loss(case, declared)
    values: dict[str, Any] = {
        "model": model,
        "loss_fn": loss_fn,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "scaler": torch.amp.GradScaler(torch.device(case.device).type, init_scale=SCALE),
        "device": torch.device(case.device),
        "epochs": case.epochs,
        "epoch": 1,
        "batch_size": case.batch_size,
        "lr": case.lr,
        "seed": case.seed,
        "classes": declared.classes or CLASSES,
        "class_names": [str(number) for number in range(declared.classes or CLASSES)],
        "accumulate": case.accumulate,
        "clip": case.clip,
        "mixed": case.mixed,
    }
    for split, data in sets.items():
        values[f"{split}_set"], values[f"{split}_loader"] = data, loaders[split]
    return World(model, optimizer, loss_fn, scheduler, values)


def _dtype(case: Case) -> torch.dtype:
    dtype = getattr(torch, case.dtype)
    assert isinstance(dtype, torch.dtype)
    return dtype
