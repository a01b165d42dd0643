"""What has been seen of a training: its parts, and the events in their order. The laws read this, and nothing else.

No tensor, module, optimizer or loader is kept alive by it: parts are held by weak references.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_loop.watching.transparent import Site

Indices = npt.NDArray[np.int64]


# -- parts -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class SeenParameter:
    """A parameter, and what is known of its gradient.

    Attributes:
        ref: the parameter.
        name: as its module calls it.
        holders: numbers of the optimizers that hold it.
        models: numbers of the models that own it.
        gradient: the gradient as it was last seen; None if there was none.
        version: its version counter then.
        applied_by: number of the optimizer whose last step applied this gradient, and nothing was added since.
        reapplied_by: number of the optimizer that had applied a part of this gradient before more was added to it.
        confirmed: by value too, not by identity and version alone, that part was still there.
        arrived: a backward pass has added to it since the last step.
        ever_arrived: a backward pass has reached it.
        scaled: what arrived is scaled up by a GradScaler.
        norm: of the gradient that was applied, where it is to be compared.
        first: a sum over its values when it was first reached, and its version.
        latest: the same, later, before the first step of all; it may be gone at the end.
    """

    ref: weakref.ref[Any]
    name: str
    holders: list[int] = field(default_factory=list)
    models: tuple[int, ...] = ()
    gradient: weakref.ref[Any] | None = None
    version: int = -1
    applied_by: int | None = None
    reapplied_by: int | None = None
    confirmed: bool = False
    arrived: bool = False
    ever_arrived: bool = False
    scaled: bool = False
    norm: float | None = None
    first: tuple[float, int] | None = None
    latest: tuple[float, int] | None = None


@dataclass(slots=True, eq=False)
class SeenOptimizer:
    """An optimizer.

    Attributes:
        number: in the order in which they were built.
        ref: the optimizer.
        name: of its class.
        site: where it was built.
        parameters: what it holds.
        steps: number of its steps.
        cleared_at: where zero_grad() was called on it while gradients were there that no step had applied.
        has_state: its class keeps momentum or the like, or it was asked to.
        suspect: gradients that it had applied were once added to: it is looked at more closely.
    """

    number: int
    ref: weakref.ref[Any]
    name: str
    site: Site | None
    parameters: list[SeenParameter] = field(default_factory=list)
    steps: int = 0
    cleared_at: Site | None = None
    has_state: bool = False
    suspect: bool = False


@dataclass(slots=True, eq=False)
class SeenModel:
    """A module with parameters that the script itself calls.

    Attributes:
        number: in the order in which they were first called.
        ref: the module.
        name: of its class.
        parameters: what it owns.
        sensitive: its modules that train and evaluate differently: Dropout, and BatchNorm that keeps statistics.
        dropout: some of them are Dropout.
        momenta: the momentum of each of these, where it has one.
        calibrating: statistics of its BatchNorm were reset, and it has not been trained since.
        forwards: number of its forwards that were watched.
    """

    number: int
    ref: weakref.ref[Any]
    name: str
    parameters: list[SeenParameter] = field(default_factory=list)
    sensitive: list[weakref.ref[Any]] = field(default_factory=list)
    dropout: bool = False
    momenta: list[float | None] = field(default_factory=list)
    calibrating: bool = False
    forwards: int = 0


@dataclass(slots=True, eq=False)
class SeenLoader:
    """A DataLoader.

    Attributes:
        number: in the order in which they were first gone through.
        ref: the loader.
        site: where it was first gone through.
        dataset: number of the data set behind all subsets.
        name: of the data set's class.
        size: number of samples that the data set behind all subsets has; None if it cannot be told.
        universe: the indices of that data set that the loader can draw, sorted; None for all of them.
        kind: how it draws: "sequential", "random" (torch's random samplers), "own" (any other), "iterable".
        batch_size: as it was given; None for a batch sampler of one's own.
        drop_last: it leaves a partial last batch out.
        batches: number of batches of a whole pass; None if it cannot be told.
    """

    number: int
    ref: weakref.ref[Any]
    site: Site | None
    dataset: int
    name: str
    size: int | None
    universe: Indices | None
    kind: str
    batch_size: int | None
    drop_last: bool
    batches: int | None


@dataclass(slots=True, eq=False)
class SeenPass:
    """One pass over a loader.

    Attributes:
        number: in the order in which they began.
        loader: its number.
        time: when it began.
        site: where it began.
        order: the first indices that it drew.
        batches: number of batches that it has yielded.
        finished: it has yielded all.
        backwards: number of backward passes that reached parameters while its batch was the latest.
        models: numbers of the models that these reached.
        evaluated: for each model, the number of forwards in no graph, and of those the ones that were awake.
        optimizers: numbers of the optimizers that stepped during it.
        first_evaluation: where the first forward in no graph was.
    """

    number: int
    loader: int
    time: int
    site: Site | None
    order: list[int] = field(default_factory=list)
    batches: int = 0
    finished: bool = False
    backwards: int = 0
    models: set[int] = field(default_factory=set)
    evaluated: dict[int, list[int]] = field(default_factory=dict)
    optimizers: set[int] = field(default_factory=set)
    first_evaluation: Site | None = None


@dataclass(slots=True, eq=False)
class SeenScheduler:
    """A learning-rate schedule.

    Attributes:
        ref: the scheduler.
        name: of its class.
        optimizer: number of its optimizer; None if that was not seen.
        site: where it was built.
        horizon: number of its steps after which it is to end; None for one without.
        steps: the number of its steps, and where the last was.
        before: its steps before the first step of its optimizer.
        first_step: where its first step was.
        loaded: its state was loaded, or it was built with a last epoch.
        inner: another schedule steps it.
        asked: it, or a copy of it, was asked for its learning rates by something else than a step.
    """

    ref: weakref.ref[Any]
    name: str
    optimizer: int | None
    site: Site | None
    horizon: int | None = None
    steps: int = 0
    before: int = 0
    first_step: Site | None = None
    loaded: bool = False
    inner: bool = False
    asked: bool = False


# -- events ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class SeenForward:
    """A model was called.

    Attributes:
        time, step: number of the event, and of optimizer steps before it.
        model: its number.
        recorded: gradients are on and a parameter requires one, so that a graph is recorded.
        training: the model's own flag.
        awake: number of its sensitive modules that are in train mode.
        pass_: number of the pass whose batch is the latest; None if there is none.
        site: where.
    """

    time: int
    step: int
    model: int
    recorded: bool
    training: bool
    awake: int
    pass_: int | None
    site: Site | None = None


@dataclass(slots=True, eq=False)
class SeenBackward:
    """A backward pass.

    Attributes:
        time, step: as in `SeenForward`.
        reached: number of parameters that got a gradient.
        unheld: of those, the number that no optimizer holds.
        onto_applied: number of parameters whose gradient a step had applied already, and was added to.
        names: of the first of these.
        models: of each model that it reached: number, its own flag of train mode, number of its modules that are awake.
        applied: numbers of the models to which a step applied what arrived.
        loss: what it began from, where that is a number and was read.
        retained: the graph was told to stay.
        alive: number of the roots of earlier backward passes whose graphs are still there.
        pass_: as in `SeenForward`.
        scaled: it began from a loss that a GradScaler scaled.
        site: where.
        origin: where a loss that is not finite came from, in words.
    """

    time: int
    step: int
    reached: int = 0
    unheld: int = 0
    onto_applied: int = 0
    names: tuple[str, ...] = ()
    models: tuple[tuple[int, bool, int], ...] = ()
    applied: set[int] = field(default_factory=set)
    loss: float | None = None
    retained: bool = False
    alive: int = 0
    pass_: int | None = None
    scaled: bool = False
    site: Site | None = None
    origin: str = ""


@dataclass(slots=True, eq=False)
class SeenStep:
    """An optimizer stepped.

    Attributes:
        time, step: as in `SeenForward`.
        optimizer: its number.
        count: number of its parameters.
        gradients: number of its parameters that have a gradient.
        arrived: number of those that a backward pass has reached since the last step.
        cleared: number of parameters that a backward pass has reached and that hold no gradient now, or one of zeros.
        kept: at least so many hold what arrived.
        repeated: number of those whose gradient its last step applied, and nothing came since.
        reapplied: number of those whose gradient holds, besides what arrived, what it has applied before.
        names: of the first that are reapplied.
        confirmed: that is known by value too.
        closure: the step was given a closure.
        in_scaler: a GradScaler takes it.
        scaled: number of gradients that are still scaled up.
        finite: the parameters are finite after it; None if that was not looked at.
        pass_: as in `SeenForward`.
        first_of_pass: no step has been taken since that pass began.
        site: where.
    """

    time: int
    step: int
    optimizer: int
    count: int = 0
    gradients: int = 0
    arrived: int = 0
    cleared: int = 0
    kept: int = 0
    repeated: int = 0
    reapplied: int = 0
    names: tuple[str, ...] = ()
    confirmed: bool = False
    closure: bool = False
    in_scaler: bool = False
    scaled: int = 0
    finite: bool | None = None
    pass_: int | None = None
    first_of_pass: bool = False
    site: Site | None = None


@dataclass(slots=True, eq=False)
class Clip:
    """Gradients were clipped.

    Attributes:
        time, step: as in `SeenForward`.
        given: number of the tensors that were given.
        used_up: they were given as an iterator that had nothing left.
        fresh: number of those that a backward pass has reached since the last step.
        applied: number of those whose gradient a step has applied, and nothing came since.
        scaled: number of those whose gradient is still scaled up.
        holders: numbers of the optimizers that hold them.
        bound: the largest norm or value.
        site: where.
    """

    time: int
    step: int
    given: int
    used_up: bool
    fresh: int
    applied: int
    scaled: int
    holders: tuple[int, ...]
    bound: float
    site: Site | None


@dataclass(slots=True, eq=False)
class Misuse:
    """A function of torch was given what is certain to be wrong.

    Attributes:
        time, step: as in `SeenForward`.
        bug: the id.
        text: what it was given.
        site: where.
    """

    time: int
    step: int
    bug: str
    text: str
    site: Site | None


@dataclass(slots=True, eq=False)
class ModeChange:
    """The script called train() or eval() on a module that was not in that mode."""

    time: int
    step: int
    training: bool
    site: Site | None


Event = SeenForward | SeenBackward | SeenStep | Clip | Misuse | ModeChange


@dataclass
class WatchLog:
    """All that has been seen.

    Attributes:
        events: in their order; only those of the steps that were watched closely.
        parameters, optimizers, models, loaders, passes, schedulers: the parts, in the order in which they were seen.
        steps: number of optimizer steps, watched closely or not.
        backwards: number of backward passes.
        closely: number of the steps that were watched closely.
        losses: the first and the last loss that was read.
        first_backward: where it was.
        scaler_steps, scaler_updates: calls of `GradScaler.step` and `GradScaler.update`; scaling turned off does not
            count.
        scaler_step: where a GradScaler first stepped.
        processes: number of child processes that were started and not watched.
        unwatched: what could not be watched, with the reason.
        complete: the script came to its end by itself.
        calls: how often each function of torch was seen that a law looks at.
    """

    events: list[Event] = field(default_factory=list)
    parameters: list[SeenParameter] = field(default_factory=list)
    optimizers: list[SeenOptimizer] = field(default_factory=list)
    models: list[SeenModel] = field(default_factory=list)
    loaders: list[SeenLoader] = field(default_factory=list)
    passes: list[SeenPass] = field(default_factory=list)
    schedulers: list[SeenScheduler] = field(default_factory=list)
    steps: int = 0
    backwards: int = 0
    closely: int = 0
    losses: list[float] = field(default_factory=list)
    first_backward: Site | None = None
    scaler_steps: int = 0
    scaler_updates: int = 0
    scaler_step: Site | None = None
    processes: int = 0
    unwatched: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    calls: dict[str, int] = field(default_factory=dict)

    def of(self, kind: type) -> list[Any]:
        """Return the events of one kind."""
        return [event for event in self.events if type(event) is kind]

    def steps_of(self, optimizer: int) -> list[SeenStep]:
        """Return the steps of one optimizer that were watched closely and have no closure."""
        steps: list[SeenStep] = self.of(SeenStep)
        return [step for step in steps if step.optimizer == optimizer and not step.closure]

    @staticmethod
    def trained_by(event: SeenBackward) -> set[int]:
        """Return the numbers of the models that a backward pass trained: an optimizer applied it, or none is there."""
        return event.applied if event.reached > event.unheld else {number for number, _, _ in event.models}

    @property
    def trained_models(self) -> set[int]:
        """Numbers of the models that were trained."""
        return {number for event in self.of(SeenBackward) for number in self.trained_by(event)}

    @property
    def trained_loaders(self) -> set[int]:
        """Numbers of the loaders whose batches were trained on; those that were only attacked are left out."""
        trained = {one.loader for one in self.passes if one.backwards and one.optimizers}
        by_backward = [event for event in self.of(SeenBackward) if event.pass_ is not None and event.reached]
        by_backward = [event for event in by_backward if self.trained_by(event) or not event.models]
        return trained | {self.passes[event.pass_].loader for event in by_backward}
