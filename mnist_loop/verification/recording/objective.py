"""The oracle of a loop with an objective of its own: the function that it declares, evaluated in float64.

It is called with what the loop had: the batch, the parameters, its other variables, and the states of the generators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mnist_loop.errors import UserError
from mnist_loop.verification.binding.objective import beside
from mnist_loop.verification.cases import world
from mnist_loop.verification.recording import global_state
from mnist_loop.verification.recording.beside import Generators, NotCopied, in_float64
from mnist_loop.verification.recording.events import Draw, Forward, OptimizerStep, Tensors

if TYPE_CHECKING:
    from mnist_loop.verification.recording.trace import Trace

LONGEST_TOLD = 200  # characters of an error


@dataclass
class Due:
    """What the objective says of one batch.

    Attributes:
        gradients: of the parameters that it depends on.
        modes: for each module that it puts into another mode than the loop had it in: its name, and whether the loop
            had it in train mode.
        unlike: why it cannot be compared with what the loop did; "" if it can.
    """

    gradients: Tensors = field(default_factory=dict)
    modes: dict[str, bool] = field(default_factory=dict)
    unlike: str = ""


class _Unlike(Exception):
    """The objective and the loop handed the model different inputs."""


class Objective:
    """Evaluates the declared objective of one recording.

    Args:
        trace: the recording.
        function: the objective.
    """

    def __init__(self, trace: Trace, function: Callable[..., Any]) -> None:
        self.trace = trace
        self.function = function
        self.name = getattr(function, "__qualname__", type(function).__qualname__)
        self.model = world.make_model(trace.case, trace.declared).double().to(trace.case.device)

    def due(self, forwards: list[Forward]) -> Due:
        """Evaluate the objective for the batch of these training forwards."""
        first = forwards[0]
        before = [event for event in self.trace.recording.events[: first.time] if isinstance(event, Draw)]
        calls = [
            forward
            for forward in self.trace.forwards
            if (before[-1].time if before else first.time - 1) < forward.time <= forwards[-1].time
        ]
        images, labels = self._batch(first, calls[0])
        values = in_float64(forwards[-1].beside)  # the objective may change them
        for name, optional in beside(self.function).items():
            if isinstance(values.get(name), NotCopied):
                return Due(unlike=f"{name} cannot be copied ({values[name].why})")
            if name not in values and not optional:
                raise UserError(
                    f"{self.name} takes {name}, and the loop has no variable of this name when it calls backward, "
                    "expected the name of one: rename the parameter, or give it a default"
                )
        modes = {name: _modes(value) for name, value in values.items() if isinstance(value, nn.Module)}
        self._make_ready(first)
        result = Due()
        with global_state.generators_restored(), self._like(calls, forwards) as after, torch.enable_grad():
            (first.begun or Generators.read()).set()
            try:
                loss = self.function(self.model, images, labels, **values)
            except _Unlike as unlike:
                return Due(unlike=str(unlike))
            except Exception as error:  # whatever a stranger's function raises
                told = " ".join(str(error).split())[:LONGEST_TOLD]
                raise UserError(
                    f"{self.name} raises {type(error).__name__} ({told}), expected an objective that returns the loss "
                    "of one batch, in float64: see docs/contract.md"
                ) from error
            if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                raise UserError(
                    f"{self.name} returns {_described(loss)}, expected the loss of the batch, a tensor of one number "
                    "with a graph"
                )
            now, backward = Generators.read(), forwards[-1].backward
            drawn = bool(after) and not now.are(after[-1])
        if drawn and backward is not None and not now.are(backward):
            return Due(unlike="it draws random numbers after the forward in another way than the loop")
        result.modes = {
            f"{name}.{part}".rstrip("."): mode
            for name, found in modes.items()
            for part, mode in found.items()
            if mode != _modes(values[name])[part]
        }
        names, parameters = zip(*((n, p) for n, p in self.model.named_parameters() if p.requires_grad), strict=True)
        found = torch.autograd.grad(loss.sum(), parameters, allow_unused=True)
        result.gradients = {name: g.cpu() for name, g in zip(names, found, strict=True) if g is not None}
        return result

    def _batch(self, first: Forward, earliest: Forward) -> tuple[Tensor, Tensor]:
        """Return the images and labels that were drawn for a forward; without any, those that it held."""
        drawn: list[tuple[str, int]] = []
        for event in self.trace.recording.events[: earliest.time][::-1]:
            if isinstance(event, Forward | OptimizerStep):
                break
            if isinstance(event, Draw):
                drawn.insert(0, (event.split, event.index))
        if not 0 < len(drawn) <= self.trace.case.batch_size:
            drawn = [*zip(first.splits, first.samples, strict=True)]
        images = torch.stack([self.trace.oracle.data(split)[0][index] for split, index in drawn])
        labels = torch.stack([self.trace.oracle.labels(split)[index] for split, index in drawn])
        device = self.trace.case.device
        labels = labels.double() if labels.is_floating_point() else labels
        return images.double().to(device), labels.to(device)

    def _make_ready(self, first: Forward) -> None:
        """Give the model the parameters and modes that it should have in a forward."""
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(first.state[name])
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in first.trainable)
        chosen = self.trace.oracle.right_eval_modules(first)
        for name, module in self.model.named_modules():
            module.training = (name or "the model") not in chosen

    @contextmanager
    def _like(self, calls: list[Forward], trained: list[Forward]) -> Iterator[list[Generators]]:
        """Have each call of the model find the generators as in the loop's call with the same inputs.

        Yields the states after each call.
        """
        left = [*trained, *(one for one in calls if one not in trained)]
        after: list[Generators] = []

        def before_call(model: nn.Module, args: Any, kwargs: Any) -> None:
            inputs = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
            forward = next((one for one in left if inputs is not None and self._same(one.inputs, inputs)), None)
            if forward is None:
                raise _Unlike("it hands the model other inputs than the loop: draw random numbers in the same order")
            if len(left) == len(calls):
                with torch.no_grad():
                    for name, buffer in ((n, b) for n, b in model.named_buffers() if n in forward.state):
                        buffer.copy_(forward.state[name])
            left.remove(forward)
            self.trace.oracle.set_generator(forward)

        def after_call(*_: Any) -> None:
            after.append(Generators.read())

        hooks = [
            self.model.register_forward_pre_hook(before_call, with_kwargs=True),
            self.model.register_forward_hook(after_call),
        ]
        try:
            yield after
        finally:
            for hook in hooks:
                hook.remove()

    def _same(self, found: Tensor, inputs: Tensor) -> bool:
        one, other = found.detach().double().cpu().flatten(), inputs.detach().double().cpu().flatten()
        return one.shape == other.shape and float((one - other).norm()) <= self.trace.tolerance * float(one.norm())


def _modes(module: nn.Module) -> dict[str, bool]:
    return {name: part.training for name, part in module.named_modules()}


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"an object of type {type(value).__name__}"
    return f"a tensor of shape {tuple(value.shape)}" + ("" if value.requires_grad else " without a graph")
