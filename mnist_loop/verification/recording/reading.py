"""A recording as the laws read it: which samples each batch held, which batches each step applied, and the oracle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mnist_loop.verification.binding.intentions import Intentions
from mnist_loop.verification.recording.oracle import TOLERANCES, Oracle
from mnist_loop.verification.recording.trace import Arrival, Call, Draw, Event, Forward, Pass, Recording, Step, Tensors

FLOOR, FLOOR_IN_FLOAT32 = 1e-12, 1e-5
# clip_grad_norm_ adds 1e-6 to the norm that it divides by; others do not.
CLIPPING = 1e-5


@dataclass(eq=False)
class Window:
    """The training forwards between two changes of the parameters, and the steps that followed.

    Attributes:
        trace: where it belongs.
        number: of the window, from 0.
        forwards: the forwards whose gradients it should apply, at least one.
        steps: the optimizer's steps after the last of them.
        after: the parameters when the next window, or the end, was reached.
        epoch: which epoch its last forward is in, from 1.
    """

    trace: Trace
    number: int
    forwards: list[Forward]
    steps: list[Step]
    after: Tensors
    epoch: int

    @property
    def time(self) -> int:
        """When it began."""
        return self.forwards[0].time

    @property
    def name(self) -> str:
        """Its number, for people: steps count from 0."""
        return f"step {self.number}"

    @cached_property
    def applied(self) -> Tensors:
        """The gradient that its steps applied; a parameter that two steps hold counts at the first."""
        found: Tensors = {}
        for step in reversed(self.steps):
            found.update({name: step.gradients[name] for name in step.lr if name in step.gradients})
        return self.trace.only_trained(found)

    @cached_property
    def implied(self) -> Tensors:
        """The gradient that its backward passes brought: replayed from what arrived at the outputs."""
        oracle = self.trace.oracle
        return add(
            self.trace.only_trained({}),
            *(
                self.trace.only_trained(
                    oracle.gradients(forward, sum_of(forward.output_gradients), forward.eval_modules)
                )
                for forward in self.forwards
                if forward.output_gradients
            ),
        )

    @cached_property
    def right(self) -> Tensors:
        """The gradient of the mean loss over its samples, as the oracle has it; clipped where that is declared."""
        gradient = self.mean
        clip = self.trace.declared.clip
        return gradient if clip is None else clipped(gradient, clip)

    @cached_property
    def mean(self) -> Tensors:
        """The gradient of the mean loss over its samples, not clipped."""
        return self.weighted([len(forward.samples) for forward in self.forwards])

    @cached_property
    def parts(self) -> list[Tensors]:
        """The gradient of the mean loss over each of its forwards."""
        oracle = self.trace.oracle
        return [
            self.trace.only_trained(oracle.gradients(forward, None, oracle.right_eval_modules(forward)))
            for forward in self.forwards
        ]

    def weighted(self, weights: list[int]) -> Tensors:
        """Return the mean of the forwards' gradients with these weights."""
        return add(*(scale(part, weight / sum(weights)) for part, weight in zip(self.parts, weights, strict=True)))

    @cached_property
    def is_right(self) -> bool:
        """It applied the right gradient, or did not end in a step."""
        if not self.steps:
            return True
        rounding = self.trace.tolerance if self.trace.declared.clip is None else max(CLIPPING, self.trace.tolerance)
        return distance(self.applied, self.right, self.trace.floor) <= rounding

    def is_applied(self, gradient: Tensors) -> bool:
        """Return whether its steps applied this gradient, or this one clipped to the declared norm."""
        clip = self.trace.declared.clip
        candidates = [gradient] if clip is None else [gradient, clipped(gradient, clip)]
        return any(self.trace.close(self.applied, candidate) for candidate in candidates)

    @cached_property
    def applied_what_arrived(self) -> bool:
        """It applied what its backward passes brought, right or wrong."""
        return self.trace.close(self.applied, self.implied)


@dataclass
class Evaluation:
    """One pass of evaluation: a call of the loop's evaluation, or the forwards on held-out data between two epochs."""

    forwards: list[Forward]
    call: Call | None = None
    after_epoch: int = 0

    @property
    def time(self) -> int:
        """When it began."""
        return self.forwards[0].time


class Trace:
    """What the laws are handed.

    Args:
        recording: what was seen of one run.
        declared: with the factory of the model, where the loop declares its own.
        others: recordings of the same loop in variants of the same case: "again" (nothing changed), "poisoned",
            "relabelled", "resumed".
    """

    def __init__(
        self, recording: Recording, declared: Intentions | None = None, others: Mapping[str, Recording] | None = None
    ) -> None:
        self.recording = recording
        self.case = recording.case
        self.declared = declared or recording.declared
        self.roles = recording.roles
        self.oracle = Oracle(recording, declared)
        self.others = {name: Trace(other, declared) for name, other in (others or {}).items()}
        self.floor = FLOOR if self.case.dtype == "float64" else FLOOR_IN_FLOAT32
        self.tolerance = TOLERANCES[self.declared.precision or self.case.dtype]
        self._identify()

    # -- what happened -------------------------------------------------------------------------------------------------

    def of(self, kind: type[Event]) -> Iterator[Event]:
        """Yield the events of one kind."""
        return (event for event in self.recording.events if isinstance(event, kind))

    @cached_property
    def calls(self) -> list[Call]:
        """The calls of the loop and of its evaluation."""
        return [event for event in self.recording.events if isinstance(event, Call)]

    @cached_property
    def forwards(self) -> list[Forward]:
        """All calls of the model."""
        return [event for event in self.recording.events if isinstance(event, Forward)]

    @cached_property
    def steps(self) -> list[Step]:
        """All steps of optimizers."""
        return [event for event in self.recording.events if isinstance(event, Step)]

    @cached_property
    def training(self) -> list[Forward]:
        """The forwards that a backward pass went through; where there is none, those that look as if one should."""
        found = [forward for forward in self.forwards if forward.output_gradients]
        called = (f for f in self.forwards if f.split == "train" and f.outputs is not None)
        return found or [f for f in called if self.call_at(f) == "train"]

    @cached_property
    def leaves(self) -> frozenset[str]:
        """The modules without submodules: those whose mode has an effect."""
        modules = self.oracle.model().named_modules()
        return frozenset(name or "the model" for name, module in modules if not any(module.children()))

    @cached_property
    def failed(self) -> Call | None:
        """The call that raised."""
        return next((call for call in self.calls if call.error is not None), None)

    def restored(self, state: Tensors, time: int) -> bool:
        """Return whether these parameters are those of an earlier state, which the loop went back to."""
        earlier = [self.recording.start, *(forward.state for forward in self.forwards if forward.time < time)]
        names = self.recording.parameters
        return any(all(torch.equal(state[name], other[name]) for name in names) for other in earlier)

    def call_at(self, event: Event) -> str:
        """Return what was called when something happened: "train" or "evaluate"."""
        return next((call.what for call in self.calls if call.time <= event.time < call.end), "train")

    @cached_property
    def windows(self) -> list[Window]:
        """The training, cut where the parameters changed or an optimizer stepped."""
        windows: list[Window] = []
        pending: list[Forward] = []
        if not self.training:
            return []
        ends = [*self.training[1:], None]
        for forward, following in zip(self.training, ends, strict=True):
            pending.append(forward)
            until = len(self.recording.events) if following is None else following.time
            state = self.recording.end if following is None else following.state
            steps = [step for step in self.steps if forward.time < step.time < until]
            moved = any(not torch.equal(forward.state[name], state[name]) for name in self.recording.parameters)
            if steps or moved or following is None:
                after = {name: state[name] for name in self.recording.parameters}
                windows.append(Window(self, len(windows), pending, steps, after, forward.epoch))
                pending = []
        return windows

    @cached_property
    def epochs(self) -> dict[int, list[Forward]]:
        """The training forwards by epoch, from 1."""
        found: dict[int, list[Forward]] = {}
        for forward in self.training:
            found.setdefault(forward.epoch, []).append(forward)
        return found

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """The passes of evaluation: forwards without backward on held-out data."""
        found: list[Evaluation] = []
        trained = set(map(id, self.training))
        previous: Event | None = None
        calls = [call for call in self.calls if call.what == "evaluate"]
        for forward in self.forwards:
            if id(forward) in trained:
                previous = forward
                continue
            call = next((call for call in calls if call.time <= forward.time < call.end), None)
            if call is None and forward.split not in ("val", "test"):
                continue
            passes = [e for e in self.of(Pass) if previous is not None and previous.time < e.time < forward.time]
            same = (
                found
                and previous is found[-1].forwards[-1]
                and found[-1].call is call
                and forward.split == found[-1].forwards[-1].split
                and not passes
            )
            if same:
                found[-1].forwards.append(forward)
            else:
                found.append(Evaluation([forward], call, previous.epoch if isinstance(previous, Forward) else 0))
            forward.epoch = found[-1].after_epoch
            previous = forward
        return found

    def arrivals(self, window: Window) -> set[str]:
        """Return the parameters that a gradient arrived at between the window's first forward and its first step."""
        until = window.steps[0].time if window.steps else len(self.recording.events)
        return {event.parameter for event in self.recording.events[window.time : until] if isinstance(event, Arrival)}

    # -- what is known of the loop -------------------------------------------------------------------------------------

    @property
    def knows_loss(self) -> bool:
        """What the loop minimises is known: it is handed the loss, or says what its own expects of the model."""
        return not self.declared.own_objective and ("loss_fn" in self.roles or self.declared.expects is not None)

    @property
    def trained(self) -> frozenset[str]:
        """The parameters that are to be trained."""
        return frozenset(
            name
            for name in self.recording.trainable
            if not any(name == part or name.startswith((f"{part}.", part)) for part in self.declared.frozen)
        )

    def only_trained(self, gradients: Tensors) -> Tensors:
        """Return the gradients of the parameters that are to be trained; zeros where there is none."""
        start = self.recording.start
        return {
            name: gradients[name].double().cpu() if name in gradients else torch.zeros_like(start[name]).double().cpu()
            for name in sorted(self.trained)
        }

    def close(self, found: Tensors, expected: Tensors) -> bool:
        """Return whether the two are equal up to rounding, each tensor measured against the norm of the whole."""
        return distance(found, expected, self.floor) <= self.tolerance

    def labels(self, forward: Forward) -> Tensor:
        """Return the labels (N,), or targets (N, 1), of the samples in a forward."""
        return self.oracle.labels_of(forward)

    def images(self, forward: Forward) -> Tensor:
        """Return the images (N, *shape) of the samples in a forward, as they were handed out."""
        places = zip(forward.splits, forward.samples, strict=True)
        return torch.stack([self._images(split)[index] for split, index in places])

    def _images(self, split: str) -> Tensor:
        return self.oracle.data(split)[0]

    # -- which samples -------------------------------------------------------------------------------------------------

    def _identify(self) -> None:
        """Find out which samples each forward held, and in which epoch it was."""
        rows = {}
        for split in ("train", "val", "test"):
            images = self._images(split)
            for index, row in enumerate(images.flatten(1)):
                rows[_key(row)] = (split, index)
        draws: list[Draw] = []
        for event in self.recording.events:
            if isinstance(event, Draw):
                draws.append(event)
            if isinstance(event, Forward):
                _identify(event, rows, draws)
        self._number_epochs()

    def _number_epochs(self) -> None:
        passes = [event for event in self.recording.events if isinstance(event, Pass) and event.split == "train"]
        draws = [event.time for event in self.recording.events if isinstance(event, Draw) and event.split == "train"]
        last = -1
        full = self.case.samples // self.case.batch_size * self.case.batch_size
        starts: list[int] = []
        epoch, seen, previous = (0 if passes else 1), set[tuple[str, int]](), set[tuple[str, int]]()
        for forward in self.training:
            places = set(zip(forward.splits, forward.samples, strict=True))
            if self.recording.whole_fit:
                begun = [event.time for event in passes if event.time < forward.time]
                new_pass = bool(begun) and begun[-1] not in starts
                if new_pass:
                    starts.append(begun[-1])
                    epoch, seen = epoch + 1, set()
                # A closure calls the model again on one batch: nothing is drawn for it, and it is no new epoch.
                drawn = any(last < time < forward.time for time in draws)
                another = drawn or places != previous or self.case.batches == 1
                if not new_pass and len(seen) >= full and seen & places and another:
                    epoch, seen = epoch + 1, set()  # batches that are kept and used again, or another loader's
                previous, last = places, forward.time
                seen |= places
                forward.epoch = max(epoch, 1)
            else:
                forward.epoch = max(
                    (c.epoch for c in self.calls if c.what == "train" and c.time < forward.time), default=1
                )
        # A loader that is opened in the midst of an epoch, or for each step, tells no epochs apart.
        sizes: dict[int, int] = {}
        for forward in self.training:
            sizes[forward.epoch] = sizes.get(forward.epoch, 0) + len(forward.samples)
        broken = epoch > self.case.epochs and min(sizes.values(), default=0) < full
        if self.recording.whole_fit and broken and len(self.training) % self.case.epochs == 0:
            for number, forward in enumerate(self.training):
                forward.epoch = number * self.case.epochs // len(self.training) + 1


def _identify(forward: Forward, rows: Mapping[bytes, tuple[str, int]], draws: list[Draw]) -> None:
    count = len(forward.inputs) if forward.inputs.dim() else 0
    found = [rows.get(_key(row)) for row in forward.inputs.reshape(count, -1)] if count else []
    known = [place for place in found if place is not None]
    if not known or len(known) < len(found):
        forward.altered = True
        last = draws[-count:] if count else []
        known = [(draw.split, draw.index) for draw in last] if len(last) == count else []
    if known:
        splits = tuple(split for split, _ in known)
        forward.split = splits[0] if len(set(splits)) == 1 else "mixed"
        forward.splits, forward.samples = splits, tuple(index for _, index in known)


def _key(row: Tensor) -> bytes:
    return row.detach().float().cpu().numpy().tobytes()


def sum_of(tensors: list[Tensor]) -> Tensor:
    """Add tensors of one shape, in float64 on the CPU."""
    return torch.stack([tensor.double().cpu() for tensor in tensors]).sum(dim=0)


def add(*gradients: Tensors) -> Tensors:
    """Add gradients by name."""
    total: Tensors = {}
    for part in gradients:
        for name, value in part.items():
            total[name] = total[name] + value if name in total else value
    return total


def scale(gradients: Tensors, factor: float) -> Tensors:
    """Multiply each gradient by ``factor``."""
    return {name: value * factor for name, value in gradients.items()}


def norm(gradients: Tensors) -> float:
    """Return the L2 norm of all gradients together."""
    return float(torch.sqrt(torch.stack([value.double().square().sum() for value in gradients.values()]).sum()))


def clipped(gradients: Tensors, longest: float) -> Tensors:
    """Scale the gradients down to the norm ``longest`` as `torch.nn.utils.clip_grad_norm_` does."""
    return scale(gradients, min(1.0, longest / (norm(gradients) + 1e-6)))


def distance(found: Tensors, expected: Tensors, floor: float = FLOOR) -> float:
    """Return the norm of the difference over the larger norm.

    It is 0 where both are 0 or nothing finite is expected, and inf where ``found`` is not finite and should be.
    """
    names = found.keys() & expected.keys()
    if not names:
        return 0.0
    # Below FLOOR a gradient is what is left when "probability minus one" cancels.
    difference = {name: found[name].double().cpu() - expected[name].double().cpu() for name in names}
    size = max(norm({name: found[name] for name in names}), norm({name: expected[name] for name in names}))
    apart = norm(difference)
    if not math.isfinite(norm({name: expected[name] for name in names})):
        return 0.0  # a training that diverges by right: nothing can be told of it
    if not math.isfinite(apart):
        return math.inf
    return max(0.0, apart - floor) / size if size else 0.0
