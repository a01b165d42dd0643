"""Where the numbers of a recording stop being numbers that can be judged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.recording.events import Call, Forward, OptimizerStep, Tensors
from mnist_loop.verification.recording.recording import Recording

HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Divergence:
    """The first values that are not finite, or so large that their squares are not.

    Attributes:
        time: of the event that has them; the number of events where the state after the run alone has them.
        what: which values.
    """

    time: int
    what: str

    def __str__(self) -> str:
        """Say what cannot be judged, as the reason why a law is not run."""
        return f"{self.what} is not finite, or its square is not: nothing is judged from there on"


def divergence(recording: Recording) -> Divergence | None:
    """Return where the values of a recording first leave the range of their squares; None if they never do.

    Norms, squared errors and second moments are sums of squares: beyond this range a right training has no right
    numbers either. A buffer that begins outside of it, such as a mask of -inf, is left out.
    """
    most = largest(recording.case)
    judged = {name for name, value in recording.start.items() if is_judged(value, most)}
    step = 0
    for event in recording.events:
        found = None
        if isinstance(event, Forward):
            found = _first(_only(event.state, judged), most, "{} before a forward") or _outputs(event, most)
            if not all(is_judged(gradient, most) for gradient in event.output_gradients):
                found = found or "the gradient at the outputs"
        if isinstance(event, OptimizerStep):
            found = _first(event.gradients, most, f"the gradient of {{}} in step {step}")
            found = found or _first(_only(event.after, judged), most, f"{{}} after step {step}")
            step += 1
        if found is not None:
            return Divergence(event.time, found)
    end = _first(_only(recording.end, judged), most, "{} at the end")
    return None if end is None else Divergence(len(recording.events), end)


def may_overflow_in_half(recording: Recording) -> bool:
    """Return whether numbers are lost in a way that half precision is known for: not finite, or a gradient of zero."""
    forwards = [event for event in recording.events if isinstance(event, Forward)]
    numbers = [n for call in recording.events if isinstance(call, Call) for n in call.result.numbers.values()]
    lost = any(not math.isfinite(number) for number in numbers)
    zero = any(not gradient.any() for forward in forwards for gradient in forward.output_gradients)
    return lost or zero or divergence(recording) is not None


def largest(case: Case) -> float:
    """Return the largest number whose square is finite, in the case's precision."""
    return math.sqrt(torch.finfo(getattr(torch, case.dtype)).max)


def is_judged(values: Tensor, most: float) -> bool:
    """Return whether no value is nan or beyond ``most``."""
    return not values.is_floating_point() or bool((values.detach().abs() <= most).all())


def _only(state: Tensors, names: set[str]) -> Tensors:
    return {name: state[name] for name in state if name in names}


def _first(values: Tensors, most: float, text: str) -> str | None:
    return next((text.format(name) for name, value in values.items() if not is_judged(value, most)), None)


def _outputs(forward: Forward, most: float) -> str | None:
    outputs = forward.outputs
    if outputs is None or not outputs.is_floating_point():
        return None
    masked = outputs.detach().nan_to_num(nan=float("nan"), neginf=0.0, posinf=float("inf"))  # -inf: a masked class
    return None if is_judged(masked, most) else "an output"
