"""The events that a recording consists of: plain data, in the order in which they happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from mnist_loop.verification.recording.beside import Generators

Tensors = dict[str, Tensor]


@dataclass(eq=False)
class Event:
    """An event. ``time`` is its number in the recording, from 0."""

    time: int = field(init=False, default=-1)


@dataclass(eq=False)
class Pass(Event):
    """A pass over the loader of ``split`` began."""

    split: str


@dataclass(eq=False)
class Draw(Event):
    """A sample was drawn from the data set of ``split``."""

    split: str
    index: int


@dataclass(eq=False)
class Forward(Event):
    """One call of the model.

    Attributes:
        inputs: what the model was called with (N, ...).
        outputs: what it returned.
        eval_modules: names of the modules in eval mode.
        grad: gradients were enabled.
        differentiable: the outputs carried a graph.
        rng: state of the generator of the model's device before the call.
        state: parameters and buffers before the call.
        trainable: names of the parameters with ``requires_grad``.
        output_gradients: for each backward pass, the gradient that arrived at the outputs.
        alive: numbers of the earlier forwards whose graph was alive when this one began.
        split: "train", "val" or "test"; "mixed" for several; "" until, and unless, it is identified.
        samples: numbers of the samples in it, once they are identified.
        splits: the split of each sample.
        altered: the inputs differ from the images that were handed out.
        epoch: the epoch, from 1, that it trained in; of an evaluation, the epoch before it.
        gradients: of the parameters before the call; those without one are left out.
        begun: the generators when the last sample before it was drawn, where the loop declares its objective.
        beside: then also the variables of the loop that its objective takes, in float64, by name, when the backward
            pass reached the outputs.
        backward: and the generators then.
        kept: number of saved tensors that outlived their backward pass, where that was watched.
    """

    inputs: Tensor
    eval_modules: tuple[str, ...]
    grad: bool
    rng: Tensor
    state: Tensors
    trainable: frozenset[str]
    alive: tuple[int, ...] = ()
    outputs: Tensor | None = None
    differentiable: bool = False
    output_gradients: list[Tensor] = field(default_factory=list)
    kept: int = 0
    split: str = ""
    samples: tuple[int, ...] = ()
    splits: tuple[str, ...] = ()
    altered: bool = False
    epoch: int = 0
    gradients: Tensors = field(default_factory=dict)
    begun: Generators | None = None
    beside: dict[str, Any] = field(default_factory=dict)
    backward: Generators | None = None


@dataclass(eq=False)
class Beside(Event):
    """A module of another model, whose result depends on the mode, was called in train mode and without gradients."""

    kind: str


@dataclass(eq=False)
class CopyForward(Event):
    """A copy of the model was called without gradients.

    Attributes:
        eval_modules: names of its modules in eval mode.
        state: its parameters and buffers.
        original: those of the model.
        averages: it is the plain average of a torch AveragedModel.
    """

    eval_modules: tuple[str, ...]
    state: Tensors
    original: Tensors
    averages: bool


@dataclass(eq=False)
class LossCall(Event):
    """One call of the loss that the loop was handed: its arguments and its value."""

    outputs: Tensor
    targets: Tensor
    value: Tensor


@dataclass(eq=False)
class Arrival(Event):
    """A backward pass added to the gradient of a parameter."""

    parameter: str


@dataclass(eq=False)
class OptimizerStep(Event):
    """One call of an optimizer's ``step``.

    Attributes:
        optimizer: number of the optimizer, in the order of their first steps; 0 is the one that was handed in.
        kind: name of its class.
        lr: learning rate of each parameter of the model that it holds.
        strangers: number of the parameters that it holds and the model does not.
        gradients: of the model's parameters when the step began, or, of a step that called a closure once, after that
            call; parameters without a gradient are left out.
        before, after: the model's parameters.
        options: by parameter, the optimizer's options when the step began, such as momentum.
        closure: the step called a closure more than once: the gradients above are not those that it applied.
    """

    optimizer: int
    kind: str
    lr: dict[str, float]
    strangers: int
    gradients: Tensors
    before: Tensors
    after: Tensors = field(default_factory=dict)
    closure: bool = False
    options: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(eq=False)
class Cleared(Event):
    """``zero_grad`` was called; the gradients of the model's parameters as they were before."""

    gradients: Tensors


@dataclass(eq=False)
class PlateauStep(Event):
    """One step of a ReduceLROnPlateau: its mode, "min" or "max", and what it was given."""

    mode: str
    value: float


@dataclass(eq=False)
class ScalerBuilt(Event):
    """A GradScaler that is switched on was made."""


@dataclass(eq=False)
class Read(Event):
    """Python read the value of a tensor, outside of an optimizer's step, and so waited for the device."""


@dataclass(eq=False)
class Returned:
    """What a call returned, as far as it can be read.

    Attributes:
        numbers: the numbers in it by their place, such as ``['loss']`` or ``[0].accuracy``.
        state: parameters and buffers, if a model or its state was returned.
        kind: name of its type.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    state: Tensors | None = None
    kind: str = "NoneType"


@dataclass(eq=False)
class Call(Event):
    """One call of the loop, or of its evaluation.

    Attributes:
        what: "train" or "evaluate".
        epoch: which epoch, from 1; 0 for a whole fit and for the evaluations at the end.
        end: time of the first event after it.
        before, after: parameters and buffers.
        gradients_before, gradients_after: of the model's parameters; those without one are left out.
        error: what it raised and where in the author's file, in one line; None if it returned.
        error_type, error_message: class and first line of the exception.
        modes_before, modes_after: names of the modules in eval mode.
    """

    what: Literal["train", "evaluate"]
    epoch: int
    before: Tensors
    gradients_before: Tensors
    after: Tensors = field(default_factory=dict)
    gradients_after: Tensors = field(default_factory=dict)
    end: int = -1
    result: Returned = field(default_factory=Returned)
    error: str | None = None
    error_type: str = ""
    error_message: str = ""
    modes_before: tuple[str, ...] = ()
    modes_after: tuple[str, ...] = ()
