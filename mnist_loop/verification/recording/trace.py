"""What was seen of a loop at work: plain data, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from mnist_loop.verification.binding.intentions import Intentions
from mnist_loop.verification.cases.cases import Case

Tensors = dict[str, Tensor]


@dataclass(eq=False)
class Event:
    """Something that happened. ``time`` counts the events of a recording from 0."""

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
        output_gradients: what backward passes brought to the outputs, one of the outputs' shape for each.
        alive: numbers of the earlier forwards whose graph was still held when this one began.
        split: "train", "val" or "test", once that was found out; "mixed" where it is several; "" where it cannot be.
        samples: numbers of the samples in it, once they were found out.
        splits: the split of each sample.
        altered: the inputs are not the images that were handed out.
        epoch: the epoch, from 1, that it trained in or that it followed.
        gradients: of the parameters before the call; those without one are left out.
        kept: number of tensors that finished backward passes still held for another, where it was watched.
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


@dataclass(eq=False)
class LossCall(Event):
    """One call of the loss that the loop was handed: what with, and what it returned."""

    outputs: Tensor
    targets: Tensor
    value: Tensor


@dataclass(eq=False)
class Arrival(Event):
    """A backward pass added to the gradient of a parameter."""

    parameter: str


@dataclass(eq=False)
class Step(Event):
    """One call of an optimizer's ``step``.

    Attributes:
        optimizer: number of the optimizer, in the order of their first steps; 0 is the one that was handed in.
        kind: its class.
        lr: learning rate by parameter, of the parameters that it holds.
        strangers: number of the parameters that it holds and the model does not.
        gradients: of the model's parameters when the step began, or where it called a closure once, when that had
            returned; those without one are left out.
        before, after: the model's parameters.
        options: by parameter, the optimizer's options when the step began, such as momentum.
        closure: the step called a closure more than once, so that what it applied is not what there was when it began.
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
class Read(Event):
    """Python read the value of a tensor outside of a step, which waits for the device."""


@dataclass(eq=False)
class Result:
    """What a call returned, as far as it is understood.

    Attributes:
        numbers: the numbers in it by where they stand, such as ``['loss']`` or ``[0].accuracy``.
        state: parameters and buffers, where a model or its state was returned.
        kind: its type.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    state: Tensors | None = None
    kind: str = "NoneType"


@dataclass(eq=False)
class Call(Event):
    """One call of the loop, or of its evaluation.

    Attributes:
        what: "train" or "evaluate".
        epoch: which epoch, from 1; 0 for a whole fit and for evaluations at the end.
        end: time of the last event in it, plus one.
        before, after: parameters and buffers.
        gradients_before, gradients_after: of the model's parameters; those without one are left out.
        error: what it raised and where in the author's file, in one line; None if it returned.
        error_type, error_message: class and first line of what it raised.
        modes_before, modes_after: names of the modules in eval mode.
    """

    what: Literal["train", "evaluate"]
    epoch: int
    before: Tensors
    gradients_before: Tensors
    after: Tensors = field(default_factory=dict)
    gradients_after: Tensors = field(default_factory=dict)
    end: int = -1
    result: Result = field(default_factory=Result)
    error: str | None = None
    error_type: str = ""
    error_message: str = ""
    modes_before: tuple[str, ...] = ()
    modes_after: tuple[str, ...] = ()


@dataclass(eq=False)
class Recording:
    """One run of a loop in one case.

    Attributes:
        case, declared: what it was run in, and what it declares.
        roles: what the loop takes.
        evaluate_roles: what its evaluation takes; None where it has none.
        whole_fit: one call trains all epochs.
        events: all that was seen, in order.
        trainable: parameters that were handed in to be trained.
        parameters: names of all parameters.
        start, end: parameters and buffers before and after the run.
        left: global state that the loop changed and did not put back.
        threads: names of the threads that the loop left behind.
        copied: how often a copy of the model was called.
        compiled: the model was compiled, so that its forwards were not seen.
    """

    case: Case
    declared: Intentions
    roles: frozenset[str]
    evaluate_roles: frozenset[str] | None
    whole_fit: bool
    trainable: frozenset[str]
    parameters: tuple[str, ...]
    start: Tensors
    events: list[Event] = field(default_factory=list)
    end: Tensors = field(default_factory=dict)
    left: tuple[str, ...] = ()
    threads: tuple[str, ...] = ()
    copied: int = 0
    compiled: bool = False
