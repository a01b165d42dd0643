"""A recording as the laws read it: which samples each batch held, which batches each step applied, and the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from mnist_loop.verification.binding.intentions import Intentions
from mnist_loop.verification.recording.arithmetic import FLOOR, distance, norm
from mnist_loop.verification.recording.divergence import Divergence, divergence
from mnist_loop.verification.recording.events import Arrival, Call, Event, Forward, OptimizerStep, Pass, Tensors
from mnist_loop.verification.recording.identify import identify_samples, number_epochs
from mnist_loop.verification.recording.objective import Objective
from mnist_loop.verification.recording.oracle import TOLERANCES, Oracle
from mnist_loop.verification.recording.recording import Recording
from mnist_loop.verification.recording.window import EvaluationPass, Window

FLOOR_IN_FLOAT32 = 1e-5


class Trace:
    """A recording as the laws read it.

    Args:
        recording: one run of a loop.
        declared: its intentions with the factory of the model, if it declares one; the recording has them without it.
        others: recordings of the same loop in variants of the same case: "again" (nothing changed), "poisoned",
            "relabelled", "resumed", "watched" (its operations were).
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
        identify_samples(recording.events, {split: self._images(split) for split in ("train", "val", "test")})
        number_epochs(recording, self.training)

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
    def steps(self) -> list[OptimizerStep]:
        """All steps of optimizers."""
        return [event for event in self.recording.events if isinstance(event, OptimizerStep)]

    @cached_property
    def training(self) -> list[Forward]:
        """The forwards with a backward pass; if there are none, those on training data in a call that trains."""
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

    @cached_property
    def objective(self) -> Objective | None:
        """The oracle of an objective of the loop's own, if it declares one."""
        declared = self.declared.objective
        return Objective(self, declared) if callable(declared) else None

    @cached_property
    def divergence(self) -> Divergence | None:
        """Where the numbers stop being judged."""
        return divergence(self.recording)

    def is_judged(self, time: int) -> bool:
        """Return whether the numbers at a time are judged: those from the first that is not finite on are not."""
        return self.divergence is None or time < self.divergence.time

    def restored(self, state: Tensors, time: int) -> bool:
        """Return whether the loop went back to an earlier state: these parameters are those before ``time``."""
        earlier = [self.recording.start, *(forward.state for forward in self.forwards if forward.time < time)]
        names = self.recording.parameters
        return any(all(torch.equal(state[name], other[name]) for name in names) for other in earlier)

    def call_at(self, event: Event) -> str:
        """Return which call an event is in: "train" or "evaluate"."""
        return next((call.what for call in self.calls if call.time <= event.time < call.end), "train")

    @cached_property
    def windows(self) -> list[Window]:
        """The training in pieces, as far as its numbers are judged."""
        return [window for window in self.all_windows if self.is_judged(window.end)]

    @cached_property
    def diverging(self) -> Window | None:
        """The piece in which the numbers stop being judged, where none before the training does so."""
        later = self.all_windows[len(self.windows) :]
        return later[0] if later and later[0].time <= (self.divergence or Divergence(-1, "")).time else None

    @cached_property
    def all_windows(self) -> list[Window]:
        """The training in pieces: one ends where the parameters changed, an optimizer stepped, or one was left out."""
        found: list[Window] = []
        for window in self._pieces:
            skipped = window.forwards[: self._left_out.get(window.number, 0)]
            for one in skipped:
                found.append(Window(self, len(found), [one], [], one.state, one.epoch))
            rest = window.forwards[len(skipped) :]
            found.append(Window(self, len(found), rest, window.steps, window.after, window.epoch))
        return found

    @cached_property
    def skipped(self) -> list[Window]:
        """The pieces whose gradient was left out because it is large: larger than any that was applied."""
        numbers = set()
        first = 0
        for window in self._pieces:
            count = self._left_out.get(window.number, 0)
            numbers |= set(range(first, first + count))
            first += count + 1
        return [window for window in self.windows if window.number in numbers]

    @cached_property
    def _left_out(self) -> dict[int, int]:
        """For each piece that applied the gradient of its last forward alone: how many forwards came before it."""
        if self.declared.accumulate > 1 or self.declared.own_objective or self.recording.compiled:
            return {}
        if any(step.closure for step in self.steps):
            return {}
        stepped = [piece for piece in self._pieces if piece.steps and self.is_judged(piece.end)]
        found = [p for p in stepped if len(p.forwards) > 1 and p.only(p.forwards[-1]).applied_what_arrived]
        dropped = [
            norm(piece.only(forward).implied) * (piece.only(piece.forwards[-1]).unscaled_by or 1.0)
            for piece in found
            for forward in piece.forwards[:-1]
        ]
        if not found or min(dropped) <= max(norm(piece.applied) for piece in stepped):
            return {}
        return {piece.number: len(piece.forwards) - 1 for piece in found}

    @cached_property
    def _pieces(self) -> list[Window]:
        """The training in pieces: one ends where the parameters changed or an optimizer stepped."""
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
    def evaluations(self) -> list[EvaluationPass]:
        """The passes of evaluation: forwards without a backward pass, in a call that evaluates or on held-out data."""
        found: list[EvaluationPass] = []
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
                found.append(EvaluationPass([forward], call, previous.epoch if isinstance(previous, Forward) else 0))
            forward.epoch = found[-1].after_epoch
            previous = forward
        return found

    def arrivals(self, window: Window) -> set[str]:
        """Return the parameters that got a gradient between the window's first forward and its first step."""
        until = window.steps[0].time if window.steps else len(self.recording.events)
        return {event.parameter for event in self.recording.events[window.time : until] if isinstance(event, Arrival)}

    @property
    def rounds(self) -> bool:
        """The loop computes in half precision as it is told to."""
        return self.case.mixed is not None and self.recording.half

    # -- what is known of the loop -------------------------------------------------------------------------------------

    @property
    def knows_loss(self) -> bool:
        """What the loop minimises is known: it is handed the loss, or declares what its own expects."""
        return not self.declared.own_objective and ("loss_fn" in self.roles or self.declared.expects is not None)

    @property
    def trained(self) -> frozenset[str]:
        """Names of the parameters that are to be trained."""
        return frozenset(
            name
            for name in self.recording.trainable
            if not any(name == part or name.startswith((f"{part}.", part)) for part in self.declared.frozen)
        )

    def only_trained(self, gradients: Tensors) -> Tensors:
        """Return the gradients of the parameters that are to be trained; zeros for a missing one."""
        start = self.recording.start
        return {
            name: gradients[name].double().cpu() if name in gradients else torch.zeros_like(start[name]).double().cpu()
            for name in sorted(self.trained)
        }

    def close(self, found: Tensors, expected: Tensors) -> bool:
        """Return whether two gradients are equal up to rounding, relative to their norm."""
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
