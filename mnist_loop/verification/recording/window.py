"""A recording in pieces: a training step with its batches, and a pass of evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from mnist_loop.verification.cases.world import SCALE
from mnist_loop.verification.recording.arithmetic import add, clipped, distance, scale, sum_of
from mnist_loop.verification.recording.events import Call, Draw, Forward, OptimizerStep, Tensors

if TYPE_CHECKING:
    from mnist_loop.verification.recording.objective import Due
    from mnist_loop.verification.recording.trace import Trace

# clip_grad_norm_ adds 1e-6 to the norm that it divides by; others do not.
CLIPPING = 1e-5


@dataclass(eq=False)
class Window:
    """The training forwards between two changes of the parameters, and the steps that followed.

    Attributes:
        trace: the trace that it is a part of.
        number: of the window, from 0.
        forwards: the forwards whose gradients its steps should apply, at least one.
        steps: the optimizer's steps after the last forward.
        after: the parameters at the end of the window.
        epoch: the epoch of its last forward, from 1.
    """

    trace: Trace
    number: int
    forwards: list[Forward]
    steps: list[OptimizerStep]
    after: Tensors
    epoch: int

    @property
    def time(self) -> int:
        """When it began."""
        return self.forwards[0].time

    @property
    def end(self) -> int:
        """When its last forward or step began."""
        return max(event.time for event in (*self.forwards, *self.steps))

    @property
    def name(self) -> str:
        """Its name in a message; steps count from 0."""
        return f"step {self.number}"

    def only(self, forward: Forward) -> Window:
        """Return the same window as if this were its only forward."""
        return replace(self, forwards=[forward])

    @cached_property
    def applied(self) -> Tensors:
        """The gradient that its steps applied; of a parameter that two steps hold, that of the first."""
        found: Tensors = {}
        for step in reversed(self.steps):
            found.update({name: step.gradients[name] for name in step.lr if name in step.gradients})
        return self.trace.only_trained(found)

    @cached_property
    def implied(self) -> Tensors:
        """The gradient of its backward passes, replayed from the gradients of the outputs."""
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
        """The oracle's gradient of the mean loss over its samples, clipped if that is declared."""
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

    @cached_property
    def dues(self) -> list[Due]:
        """What the declared objective says of each of its batches."""
        assert self.trace.objective is not None
        return [self.trace.objective.due(batch) for batch in self._batches]

    @cached_property
    def objective_gradient(self) -> Tensors:
        """The gradient of the declared objective, the mean over its samples, clipped if that is declared."""
        sizes = [sum(len(forward.samples) for forward in batch) for batch in self._batches]
        parts = [self.trace.only_trained(due.gradients) for due in self.dues]
        mean = add(*(scale(part, size / sum(sizes)) for part, size in zip(parts, sizes, strict=True)))
        clip = self.trace.declared.clip
        return mean if clip is None else clipped(mean, clip)

    @property
    def _batches(self) -> list[list[Forward]]:
        """Its forwards by the batch that was drawn for them; all together in a loop that does not accumulate."""
        draws = [event.time for event in self.trace.of(Draw)] if self.trace.declared.accumulate > 1 else []
        found: dict[int, list[Forward]] = {}
        for forward in self.forwards:
            found.setdefault(max((time for time in draws if time < forward.time), default=-1), []).append(forward)
        return [*found.values()]

    def weighted(self, weights: list[int]) -> Tensors:
        """Return the mean of the forwards' gradients with these weights."""
        return add(*(scale(part, weight / sum(weights)) for part, weight in zip(self.parts, weights, strict=True)))

    @cached_property
    def is_right(self) -> bool:
        """It applied the right gradient, or has no step."""
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
    def unscaled_by(self) -> float | None:
        """By what it multiplied the gradient of its backward passes: 1, or what a GradScaler does; None for neither."""
        factors = (1.0, 1 / SCALE) if "scaler" in self.trace.roles else (1.0,)
        return next((f for f in factors if self.trace.close(self.applied, scale(self.implied, f))), None)

    @property
    def applied_what_arrived(self) -> bool:
        """It applied the gradient of its backward passes, right or wrong."""
        return self.unscaled_by is not None


@dataclass
class EvaluationPass:
    """One pass of evaluation: a call of the loop's evaluation, or the forwards on held-out data between two epochs."""

    forwards: list[Forward]
    call: Call | None = None
    after_epoch: int = 0

    @property
    def time(self) -> int:
        """When it began."""
        return self.forwards[0].time
