"""One run of a loop, recorded."""

from __future__ import annotations

from dataclasses import dataclass, field

from mnist_loop.verification.binding.intentions import Intentions
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.recording.events import Event, Tensors


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule that the loop built.

    Attributes:
        name: of its class.
        steps: how often it was stepped.
        horizon: the number of its steps after which it ends; None if it has no end.
    """

    name: str
    steps: int
    horizon: int | None


@dataclass(eq=False)
class Recording:
    """One run of a loop in one case.

    Attributes:
        case: the case.
        declared: the intentions of the loop.
        roles: what the loop takes.
        evaluate_roles: what its evaluation takes; None without evaluation.
        whole_fit: one call trains all epochs.
        events: all events, in order.
        trainable: names of the parameters that the loop is to train.
        parameters: names of all parameters.
        start, end: parameters and buffers before and after the run.
        left: global state that the loop changed and did not put back.
        threads: names of the threads that the loop left behind.
        copied: number of calls of a copy of the model.
        compiled: the model was compiled, so that its forwards were not seen.
        schedules: the learning-rate schedules that the loop built.
        half: a tensor in half precision was made; it is seen where reads are watched.
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
    schedules: tuple[Schedule, ...] = ()
    half: bool = False
