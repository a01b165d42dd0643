"""The ledger of gradients: which of them a step has applied, and what came to them since.

Nothing is copied. A gradient that is the same tensor at the same version of its counter holds what it held before. A
write through ``.data`` moves no version, so that a gradient that seems untouched is looked at once more, by value.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from mnist_loop.watching.log import SeenOptimizer, SeenParameter, SeenStep, WatchLog

MOST_NAMES = 3  # in a finding
MOST_VALUES = 4  # gradients of one optimizer that are looked at by value at one event


class Ledger:
    """Follows the gradient of each known parameter from one event to the next."""

    def __init__(self, log: WatchLog) -> None:
        self.log = log
        self.known: dict[int, SeenParameter] = {}  # by id; an id is checked, as it may be used again
        self.looked: Counter[int | None] = Counter()  # at values in this event, by the optimizer

    # -- parameters ----------------------------------------------------------------------------------------------------

    def parameter(self, tensor: Any, name: str) -> SeenParameter:
        """Return what is known of a parameter; from now on its gradient is followed."""
        found = self.known.get(id(tensor))
        if found is None or found.ref() is not tensor:
            found = SeenParameter(weakref.ref(tensor), name)
            self.known[id(tensor)] = found
            self.log.parameters.append(found)
        return found

    def of(self, tensors: Iterable[Any]) -> Iterator[tuple[Any, SeenParameter]]:
        """Yield the tensors that are known, each with what is known of it."""
        for tensor in tensors:
            found = self.known.get(id(tensor))
            if found is not None and found.ref() is tensor:
                yield tensor, found

    def forget_the_dead(self) -> None:
        """Drop what is known of parameters that are gone."""
        self.known = {key: one for key, one in self.known.items() if one.ref() is not None}

    # -- a backward pass -----------------------------------------------------------------------------------------------

    def before_backward(self) -> dict[int, int]:
        """Bring the ledger up to date; return the version of each gradient, by the parameter's id."""
        self.looked.clear()
        versions = {}
        for key, seen in self.known.items():
            tensor = seen.ref()
            gradient = None if tensor is None else tensor.grad
            if gradient is None:
                _clear(seen)
                continue
            version = gradient._version
            if seen.gradient is None or seen.gradient() is not gradient:
                _clear(seen)
            elif version != seen.version:  # written to, outside of any backward pass: clipped, unscaled, set to zero
                seen.applied_by = None
                if seen.reapplied_by is not None and not self._holds_something(seen, gradient):
                    _clear(seen)
            elif seen.applied_by is not None and not self._still_there(seen, gradient):
                _clear(seen)  # it was set to zero through .data
            if seen.gradient is None:
                seen.gradient = weakref.ref(gradient)
            seen.version = version
            versions[key] = version
        return versions

    def after_backward(self, versions: dict[int, int], *, scaled: bool) -> list[SeenParameter]:
        """Note which parameters a backward pass reached; return them."""
        landed = []
        for key, seen in self.known.items():
            tensor = seen.ref()
            gradient = None if tensor is None else tensor.grad
            if gradient is None:
                continue
            version = gradient._version
            before = versions.get(key)
            if before is None:
                if seen.gradient is not None and seen.gradient() is gradient and seen.version == version:
                    continue  # an optimizer stepped within the backward pass, and has noted it
                seen.applied_by = seen.reapplied_by = None
            elif seen.gradient is not None and seen.gradient() is gradient and version == before:
                continue
            elif seen.applied_by is not None:
                seen.reapplied_by, seen.applied_by = seen.applied_by, None
            if seen.first is None:
                seen.first = fingerprint(tensor)
            seen.gradient = weakref.ref(gradient)
            seen.version = version
            seen.arrived = seen.ever_arrived = True
            seen.scaled = scaled
            landed.append(seen)
        return landed

    # -- a step --------------------------------------------------------------------------------------------------------

    def before_step(self, optimizer: SeenOptimizer, tensors: list[Any], step: SeenStep) -> None:
        """Fill in what a step finds in the gradients of its parameters."""
        self.looked.clear()
        names = []
        step.count = len(tensors)
        for tensor, seen in self.of(tensors):
            gradient = tensor.grad
            if gradient is None:
                step.cleared += seen.arrived
                continue
            step.gradients += 1
            same = seen.gradient is not None and seen.gradient() is gradient
            untouched = same and seen.version == gradient._version
            if seen.arrived:
                step.arrived += 1
                step.scaled += seen.scaled and untouched
                if untouched or (same and not step.kept and _norm(gradient) > 0):
                    step.kept += 1
                elif same and not step.kept:
                    step.cleared += 1  # set to zero
                if (
                    same
                    and seen.reapplied_by == optimizer.number
                    and (untouched or self._holds_something(seen, gradient))
                ):
                    step.reapplied += 1
                    step.confirmed |= seen.confirmed
                    names.append(seen.name)
            elif untouched and seen.applied_by == optimizer.number:
                step.repeated += 1
        step.names = tuple(names[:MOST_NAMES])

    def after_step(self, optimizer: SeenOptimizer, tensors: list[Any]) -> None:
        """Mark the gradients that a step has applied."""
        left = MOST_VALUES if optimizer.suspect else 0
        for tensor, seen in self.of(tensors):
            gradient = tensor.grad
            seen.arrived = seen.confirmed = seen.scaled = False
            seen.reapplied_by = seen.norm = None
            if gradient is None:
                _clear(seen)
                continue
            if seen.gradient is None or seen.gradient() is not gradient:
                seen.gradient = weakref.ref(gradient)
            seen.version = gradient._version
            seen.applied_by = optimizer.number
            if left:
                seen.norm = _norm(gradient)
                left -= 1

    # -- by value ------------------------------------------------------------------------------------------------------

    def _still_there(self, seen: SeenParameter, gradient: Any) -> bool:
        """Return whether a gradient that seems untouched still holds what was applied, as far as values tell."""
        if not self._may_look(seen.applied_by):
            return False
        if seen.norm is not None:
            seen.confirmed = _norm(gradient) == seen.norm and seen.norm > 0
            return seen.confirmed
        return _norm(gradient) > 0

    def _holds_something(self, seen: SeenParameter, gradient: Any) -> bool:
        """Return whether a gradient is not zero; after some at one event, without looking, that it is not."""
        return not self._may_look(seen.reapplied_by) or _norm(gradient) > 0

    def _may_look(self, optimizer: int | None) -> bool:
        self.looked[optimizer] += 1
        return self.looked[optimizer] <= MOST_VALUES


def moved(seen: SeenParameter) -> bool:
    """Return whether a parameter has another value than when its first gradient came; True where that is not known."""
    tensor = seen.ref()
    now = seen.latest if tensor is None else fingerprint(tensor)
    return now is None or seen.first != now


def fingerprint(tensor: Any) -> tuple[float, int]:
    """Return a sum over a tensor's values and its version, by which a change is told."""
    return _norm(tensor), tensor._version


def _norm(tensor: Any) -> float:
    with torch.no_grad():
        values = tensor.detach()
        values = values.coalesce().values() if values.is_sparse else values
        return float(torch.linalg.vector_norm(values, dtype=None if values.is_floating_point() else torch.float64))


def _clear(seen: SeenParameter) -> None:
    seen.gradient = seen.applied_by = seen.reapplied_by = seen.norm = None
    seen.version = -1
    seen.arrived = seen.confirmed = seen.scaled = False
