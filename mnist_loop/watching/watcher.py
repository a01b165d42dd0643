"""The watcher: what the hooks call. It keeps the log, and decides what is worth a closer look."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from mnist_loop.watching.data import DataWatch
from mnist_loop.watching.gradients import Ledger, fingerprint
from mnist_loop.watching.log import (
    Clip,
    Misuse,
    ModeChange,
    SeenBackward,
    SeenForward,
    SeenModel,
    SeenOptimizer,
    SeenStep,
    WatchLog,
)
from mnist_loop.watching.not_finite import origin_of
from mnist_loop.watching.sampling import Sampling
from mnist_loop.watching.scheduling import ScheduleWatch
from mnist_loop.watching.transparent import Site, site

MOST_EVENTS = 50_000  # in the log; what comes later is counted alone
SITES = 3  # the line of an event is looked up for the first ones of its kind
BATCH_NORM = (nn.modules.batchnorm._BatchNorm,)
DROPOUT = (nn.modules.dropout._DropoutNd,)
STATELESS = ("SGD", "ASGD", "Rprop", "LBFGS")


# A step that is only counted.
COUNTED = SeenStep(0, 0, 0)

_forks = 0


def _forked() -> None:
    global _forks  # asking for the number of the process costs a call of the system at each event
    _forks += 1


os.register_at_fork(after_in_child=_forked)


class Token:
    """Lives as long as the graph that it is tied to."""

    __slots__ = ("__weakref__",)


class Watcher:
    """Watches the training of this process, in the thread that made the watcher.

    Attributes:
        log: what was seen.
        closely: the present step is watched closely.
        after_step: called after each step with the number of steps so far.
    """

    def __init__(self) -> None:
        self.log = WatchLog()
        self.ledger = Ledger(self.log)
        self.data = DataWatch(self.log)
        self.schedules = ScheduleWatch(self)
        self.sampling = Sampling()
        self.closely = True
        self.relax: Callable[[], None] = lambda: None
        self.tighten: Callable[[], None] = lambda: None
        self.after_step: Callable[[int], None] = lambda _: None
        self.thread, self.forks = threading.get_ident(), _forks
        self.time = 0
        self.current: Any = None  # the outermost module that is running
        self.in_backward = 0
        self.in_scaler = 0
        self.suspended = 0
        self.steps: list[SeenStep | None] = []  # that are under way: one optimizer may call another
        self.synced: set[int] = set()  # optimizers whose last step was watched closely
        self.optimizers: dict[int, SeenOptimizer] = {}
        self.models: dict[int, SeenModel | None] = {}
        self.to_look_at: set[int] = set()  # again, at their next forward
        self.module_refs: dict[int, weakref.ref[Any]] = {}
        self.pass_of_step: int | None = -1
        self.scaled_roots: list[weakref.ref[Any]] = []
        self.waiting: list[tuple[SeenBackward, set[int]]] = []  # backward passes, and the models that wait for a step
        self.tokens: list[weakref.ref[Token]] = []
        self.not_finite = False
        self.sites: dict[object, int] = {}
        self.broken: dict[str, str] = {}

    # -- housekeeping --------------------------------------------------------------------------------------------------

    def is_here(self) -> bool:
        """Return whether the caller is the process and the thread that are watched, and nothing suspends it."""
        return self.forks == _forks and not self.suspended and threading.get_ident() == self.thread

    def tick(self) -> int:
        """Return the number of the next event."""
        self.time += 1
        return self.time

    def add(self, event: Any) -> None:
        """Put an event into the log."""
        if len(self.log.events) < MOST_EVENTS:
            self.log.events.append(event)

    def site(self, key: object) -> Site | None:
        """Return the author's line for the first events of a kind; None for later ones."""
        seen = self.sites.get(key, 0)
        if seen >= SITES:
            return None
        self.sites[key] = seen + 1
        return site()

    def look(self) -> None:
        """Follow the sampling: look closely, or no more."""
        closely = self.sampling.closely
        if closely != self.closely:
            self.closely = closely
            if closely:
                self.tighten()
            else:
                self.relax()
                self.synced.clear()
                self.current = None

    # -- optimizers ----------------------------------------------------------------------------------------------------

    def optimizer(self, optimizer: Any) -> SeenOptimizer:
        """Return what is known of an optimizer."""
        found = self.optimizers.get(id(optimizer))
        if found is None or found.ref() is not optimizer:
            found = SeenOptimizer(len(self.log.optimizers), weakref.ref(optimizer), type(optimizer).__name__, site())
            found.has_state = type(optimizer).__name__ not in STATELESS or bool(
                getattr(optimizer, "defaults", {}).get("momentum")
            )
            self.optimizers[id(optimizer)] = found
            self.log.optimizers.append(found)
            if self.closely:
                self.synced.add(found.number)
        return found

    def on_group(self, optimizer: Any, tensors: Iterable[Any]) -> None:
        """Note the parameters that an optimizer was given."""
        seen = self.optimizer(optimizer)
        for tensor in tensors:
            one = self.ledger.parameter(tensor, f"parameter {len(seen.parameters)} of {seen.name}")
            if seen.number not in one.holders:
                one.holders.append(seen.number)
                seen.parameters.append(one)
        self.ledger.forget_the_dead()
        self.to_look_at.update(self.models)  # a model is often changed before its optimizer is made

    def on_zero_grad(self, optimizer: Any) -> None:
        """Note where gradients are cleared."""
        seen = self.optimizer(optimizer)
        if self.closely and any(one.arrived for one in seen.parameters):
            seen.cleared_at = self.site(("zero_grad", seen.number)) or seen.cleared_at

    def before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Note what a step finds."""
        if self.steps:
            self.steps[-1] = None  # it only calls this one
        if not self.closely:
            self.steps.append(COUNTED)
            return
        seen = self.optimizer(optimizer)
        step = SeenStep(self.tick(), self.log.steps, seen.number)
        step.closure = (len(args) > 1 and args[1] is not None) or kwargs.get("closure") is not None
        step.closure |= self.in_backward > 0
        step.in_scaler = self.in_scaler > 0
        step.pass_ = self.data.current
        step.first_of_pass = step.pass_ != self.pass_of_step
        step.site = self.site(("step", seen.number))
        self.ledger.before_step(seen, _parameters(optimizer), step)
        if step.site is None and (step.repeated or step.reapplied or step.cleared):
            step.site = self.site(("odd step", seen.number))
        self.steps.append(step)

    def stepped(self, optimizer: Any) -> None:
        """Note that a step was taken."""
        self.current = None
        step = self.steps.pop() if self.steps else None
        if step is None:
            return
        seen = self.optimizer(optimizer)
        seen.steps += 1
        log = self.log
        log.steps += 1
        self.pass_of_step = self.data.current
        if self.data.current is not None:
            log.passes[self.data.current].optimizers.add(seen.number)
        if self.closely and step is not COUNTED:
            tensors = _parameters(optimizer)
            if step.reapplied:
                seen.suspect = True
                self.sampling.look(steps=2)
            self._apply(seen)
            self.ledger.after_step(seen, tensors)
            if seen.number in self.synced:
                if self.not_finite:
                    step.finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
                self.add(step)
                log.closely += 1
            self.synced.add(seen.number)
        self.sampling.on_step()
        self.look()
        self.after_step(log.steps)

    def _apply(self, optimizer: SeenOptimizer) -> None:
        """Note which backward passes a step applies."""
        models = {number for one in optimizer.parameters if one.arrived for number in one.models}
        for event, waiting in self.waiting:
            event.applied |= waiting & models
            waiting -= models
        self.waiting = [(event, waiting) for event, waiting in self.waiting if waiting]

    # -- models --------------------------------------------------------------------------------------------------------

    def model(self, module: Any) -> SeenModel | None:
        """Return what is known of a module that the script calls; None for one without parameters."""
        key = id(module)
        ref = self.module_refs.get(key)
        if ref is None or ref() is not module:
            self.module_refs[key] = weakref.ref(module)
            self.models[key] = self._looked_at(module, None)
            self.to_look_at.add(key)
        elif key in self.to_look_at:
            self.to_look_at.discard(key)
            self.models[key] = self._looked_at(module, self.models[key])
        return self.models[key]

    def _looked_at(self, module: Any, found: SeenModel | None) -> SeenModel | None:
        """Note the parameters of a model, which a first forward may make and a script may replace."""
        known = set() if found is None else {id(one.ref()) for one in found.parameters}
        leaves = [(name, tensor) for name, tensor in module.named_parameters() if tensor.is_leaf]
        new = [(name, tensor) for name, tensor in leaves if id(tensor) not in known]
        if not new:
            return found
        if found is None:
            found = SeenModel(len(self.log.models), weakref.ref(module), type(module).__name__)
            self.log.models.append(found)
        found.parameters = [one for one in found.parameters if one.ref() is not None]
        for name, tensor in new:
            one = self.ledger.parameter(tensor, name)
            one.name, one.models = name, (*one.models, found.number)
            found.parameters.append(one)
        parts = {id(ref()) for ref in found.sensitive}
        for part in module.modules():
            if _is_sensitive(part) and id(part) not in parts:
                found.sensitive.append(weakref.ref(part))
                found.momenta.append(getattr(part, "momentum", None))
                found.dropout |= isinstance(part, DROPOUT)
        return found

    def before_forward(self, module: Any) -> None:
        """Note a forward, if it is the outermost one."""
        if self.current is not None or self.in_backward or not self.is_here():
            return
        model = self.model(module)
        if model is None:
            return
        self.current = module
        model.forwards += 1
        recorded = torch.is_grad_enabled() and any(
            (tensor := one.ref()) is not None and tensor.requires_grad for one in model.parameters
        )
        awake = 0 if not recorded and _calibrates(model) else _awake(model)
        event = SeenForward(
            self.tick(), self.log.steps, model.number, recorded, module.training, awake, self.data.current
        )
        event.site = self.site(("forward", model.number, recorded, event.training, self.data.current_loader))
        self.add(event)
        self.data.on_forward(event)

    def after_forward(self, module: Any) -> None:
        """Note the end of a forward."""
        if module is self.current:
            self.current = None

    def on_mode(self, module: Any, training: bool) -> None:
        """Note a call of ``train()`` or ``eval()``: what follows is worth a closer look."""
        if module.training != training:
            self.add(ModeChange(self.tick(), self.log.steps, training, self.site(("mode", training))))
            self.sampling.look(batches=2)
            self.look()

    def on_reset(self, module: Any) -> None:
        """Note that the statistics of a BatchNorm are to be gathered anew."""
        for model in self.log.models:
            model.calibrating |= any(ref() is module for ref in model.sensitive)

    # -- backward passes -----------------------------------------------------------------------------------------------

    def before_backward(self, roots: Any, retained: bool) -> tuple[SeenBackward, dict[int, int]] | None:
        """Note the start of a backward pass; None for one within another."""
        self.in_backward += 1
        if self.in_backward > 1:
            return None
        self.current = None
        log = self.log
        event = SeenBackward(self.tick(), log.steps, retained=retained, pass_=self.data.current)
        event.site = self.site("backward")
        log.first_backward = log.first_backward or event.site
        log.backwards += 1
        root = roots if isinstance(roots, torch.Tensor) else None
        event.scaled = self._is_scaled(roots)
        if root is not None and root.numel() == 1 and not event.scaled and root.is_floating_point():
            event.loss = float(root.detach())
            log.losses[1:] = [event.loss]
            if not math.isfinite(event.loss) and not self.not_finite:
                self.not_finite = True
                event.site = site()
                event.origin = origin_of(root)
        if root is not None and root.grad_fn is not None:
            event.alive = self._tie(root.grad_fn)
        versions = self.ledger.before_backward()
        arrived = {number for one in self.ledger.known.values() if one.arrived for number in one.models}
        for _, waiting in self.waiting:
            waiting &= arrived
        return event, versions

    def after_backward(self, begun: tuple[SeenBackward, dict[int, int]] | None) -> None:
        """Note what a backward pass reached."""
        self.in_backward -= 1
        if begun is None:
            return
        event, versions = begun
        landed = self.ledger.after_backward(versions, scaled=event.scaled)
        event.reached = len(landed)
        if not self.log.steps and self.log.backwards.bit_count() == 1:  # now and then: it costs time
            for one in landed:
                one.latest = fingerprint(one.ref())
        event.unheld = sum(not one.holders for one in landed)
        stale = [one.name for one in landed if one.reapplied_by is not None]
        event.onto_applied, event.names = len(stale), tuple(stale[:3])
        if stale:
            event.site = event.site or self.site(("onto applied", event.names))
        if stale and event.site is None:
            event.site = self.site("onto applied")
        owners: set[int] = set()
        for one in landed:
            owners.update(one.models)
        models = [model for model in self.log.models if model.number in owners]
        event.models = tuple(
            (model.number, module.training, _awake(model)) for model in models if (module := model.ref()) is not None
        )
        if landed:
            self.data.on_training(event)
            self.waiting.append((event, set(owners)))
            for model in models:
                model.calibrating = False
        self.add(event)
        self.sampling.on_batch(in_training=True)

    def _tie(self, node: Any) -> int:
        """Tie a token to a graph; return how many graphs of earlier backward passes are alive."""
        alive = [ref for ref in self.tokens if ref() is not None]
        token = Token()
        node.metadata[Token] = token
        self.tokens = [*alive[-64:], weakref.ref(token)]
        return len(alive)

    # -- losses, clipping, scaling -------------------------------------------------------------------------------------

    def misuse(self, bug: str, text: str) -> None:
        """Note that a function was given what is certain to be wrong."""
        if self.sites.get(bug, 0) < SITES:
            self.add(Misuse(self.tick(), self.log.steps, bug, text, self.site(bug)))

    def called(self, name: str) -> None:
        """Count a call of a function that a law looks at."""
        self.log.calls[name] = self.log.calls.get(name, 0) + 1

    def on_clip(self, tensors: list[Any], used_up: bool, bound: float) -> None:
        """Note what is clipped."""
        given = list(self.ledger.of(tensors))
        holders = sorted({number for _, seen in given for number in seen.holders})
        if not used_up and not set(holders) <= self.synced:
            return
        fresh = applied = scaled = 0
        for tensor, seen in given:
            gradient = tensor.grad
            same = gradient is not None and seen.gradient is not None and seen.gradient() is gradient
            fresh += seen.arrived and gradient is not None
            untouched = same and seen.version == gradient._version
            applied += untouched and not seen.arrived and seen.applied_by is not None
            scaled += untouched and seen.arrived and seen.scaled
        where = self.site(("clip", used_up, fresh > 0, scaled > 0))
        clip = Clip(
            self.tick(), self.log.steps, len(tensors), used_up, fresh, applied, scaled, tuple(holders), bound, where
        )
        self.add(clip)

    def on_scale(self, scaled: Any) -> None:
        """Note the losses that a GradScaler has scaled."""
        self.scaled_roots = [weakref.ref(one) for one in _tensors(scaled)]

    def on_unscale(self, optimizer: Any) -> None:
        """Note that the gradients of an optimizer were scaled back; on some devices this moves no version."""
        for one in self.optimizer(optimizer).parameters:
            one.scaled = False

    def _is_scaled(self, roots: Any) -> bool:
        return bool(self.scaled_roots) and any(ref() is one for one in _tensors(roots) for ref in self.scaled_roots)


def _parameters(optimizer: Any) -> list[Any]:
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def _tensors(given: Any) -> list[Any]:
    if isinstance(given, torch.Tensor):
        return [given]
    return [one for one in given if isinstance(one, torch.Tensor)] if isinstance(given, list | tuple) else []


def _is_sensitive(module: Any) -> bool:
    if isinstance(module, DROPOUT):
        return bool(module.p > 0)
    return isinstance(module, BATCH_NORM) and module.running_mean is not None


def _calibrates(model: SeenModel) -> bool:
    """Return whether the statistics of BatchNorm are gathered anew: they were reset, or another momentum was set."""
    own = zip(model.sensitive, model.momenta, strict=True)
    return model.calibrating or any(getattr(ref(), "momentum", momentum) != momentum for ref, momentum in own)


def _awake(model: SeenModel) -> int:
    return sum(module.training for ref in model.sensitive if (module := ref()) is not None)
