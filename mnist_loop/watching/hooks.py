"""The hooks in torch that tell the watcher what happens. Each calls what it stands before, unchanged, whatever comes.

`installed` puts them in, and takes them out again. They look up the watcher at each call, so that pytest can hand each
test a watcher of its own.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader
from torch.utils.data import dataloader as dataloader_module

from mnist_loop.watching import losses
from mnist_loop.watching.data import RecordedSampler
from mnist_loop.watching.log import SeenPass
from mnist_loop.watching.transparent import unseen
from mnist_loop.watching.watcher import Watcher

FORWARDS = "forwards"  # what cannot be watched where a model is compiled


class Hooks:
    """What is put into torch.

    Attributes:
        watcher: what is told; None while nothing is to be watched.
    """

    def __init__(self) -> None:
        self.watcher: Watcher | None = None
        self.replaced: list[tuple[Any, str, Any, bool]] = []
        self.handles: list[Any] = []
        self.forwards: list[Any] = []
        self.compiled = False
        self.mark = (
            f"_mnist_loop_pass_{id(self)}"  # attribute of a loader's iterator; blocks may be watched within others
        )

    # -- telling -------------------------------------------------------------------------------------------------------

    def tell(self, what: str, call: Callable[..., Any], *args: Any) -> Any:
        """Tell the watcher; what goes wrong in that is noted, and never reaches the training."""
        watcher = self.watcher
        if watcher is None or what in watcher.broken or not watcher.is_here():
            return None
        try:
            return call(watcher, *args)
        except Exception as error:  # noqa: BLE001  # the training goes on, and the verdict says what was not watched
            watcher.broken[what] = f"{type(error).__name__}: {error}"
            return None

    def watch(self, watcher: Watcher | None) -> None:
        """Tell this watcher from now on; None for none."""
        self.watcher = watcher
        self._forwards_off()
        if watcher is not None:
            watcher.relax, watcher.tighten = self._forwards_off, self._forwards_on
            if watcher.closely:
                self._forwards_on()

    # -- forwards: there only while they are looked at, as they slow each module down ----------------------------------

    def _forwards_on(self) -> None:
        if self.compiled:
            if self.watcher is not None:
                self.watcher.log.unwatched[FORWARDS] = "torch.compile would compile the hooks with the model"
            return
        if not self.forwards:
            module = nn.modules.module
            self.forwards = [
                module.register_module_forward_pre_hook(self._before_forward),
                module.register_module_forward_hook(self._after_forward, always_call=True),
            ]

    def _forwards_off(self) -> None:
        for handle in self.forwards:
            handle.remove()
        self.forwards = []

    def _before_forward(self, module: Any, args: Any) -> None:  # noqa: ARG002  # what torch hands to a hook
        watcher = self.watcher
        if watcher is not None and watcher.current is None:
            self.tell("forwards", Watcher.before_forward, module)

    def _after_forward(self, module: Any, args: Any, output: Any) -> None:  # noqa: ARG002  # as above
        watcher = self.watcher
        if watcher is not None and watcher.current is module:
            watcher.current = None

    # -- putting in and taking out -------------------------------------------------------------------------------------

    def put(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace an attribute by what ``make`` returns for it; do nothing where there is no such attribute."""
        own = name in vars(owner)
        before = vars(owner)[name] if own else getattr(owner, name, None)
        if before is None:
            return
        self.replaced.append((owner, name, before, own))
        made = make(before)
        if isinstance(made, types.FunctionType):
            functools.update_wrapper(unseen(made), before)
            # What torch.jit.script looks for: it compiles the original.
            made.__dict__.update({"__script_if_tracing_wrapper": True, "__original_fn": before})
        setattr(owner, name, made)

    def take_out(self) -> None:
        """Put everything back."""
        self._forwards_off()
        for handle in self.handles:
            handle.remove()
        for owner, name, before, own in reversed(self.replaced):
            if own:
                setattr(owner, name, before)
            else:
                delattr(owner, name)
        self.handles, self.replaced = [], []

    def put_in(self) -> None:
        """Put all hooks into torch."""
        tell = self.tell
        self.handles = [
            register_optimizer_step_pre_hook(lambda *args: tell("steps", Watcher.before_step, *args)),
            register_optimizer_step_post_hook(lambda optimizer, *_: tell("steps", Watcher.stepped, optimizer)),
        ]
        self._optimizers()
        self._autograd()
        self._modules()
        self._loaders()
        self._schedules()
        self._clipping()
        self._scaling()
        losses.put_in(self)

    def _optimizers(self) -> None:
        tell = self.tell

        def add_param_group(original: Any) -> Any:
            def wrapper(self: Any, param_group: Any) -> Any:
                original(self, param_group)
                tell("optimizers", Watcher.on_group, self, self.param_groups[-1]["params"])

            return wrapper

        def zero_grad(original: Any) -> Any:
            def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
                tell("optimizers", Watcher.on_zero_grad, self)
                return original(self, *args, **kwargs)

            return wrapper

        self.put(Optimizer, "add_param_group", add_param_group)
        self.put(Optimizer, "zero_grad", zero_grad)

    def _autograd(self) -> None:
        hooks, tell = self, self.tell

        def backward(original: Any) -> Any:
            def wrapper(tensors: Any, *args: Any, **kwargs: Any) -> Any:
                watcher = hooks.watcher
                if watcher is None or torch.compiler.is_compiling() or not watcher.is_here():
                    return original(tensors, *args, **kwargs)
                if not watcher.closely:
                    watcher.log.backwards += 1
                    return original(tensors, *args, **kwargs)
                retain = kwargs.get("retain_graph", args[1] if len(args) > 1 else None)
                create = kwargs.get("create_graph", args[2] if len(args) > 2 else False)
                begun = tell("backward", Watcher.before_backward, tensors, bool(retain) and not create)
                try:
                    return original(tensors, *args, **kwargs)
                finally:
                    tell("backward", Watcher.after_backward, begun)

            return wrapper

        self.put(torch.autograd, "backward", backward)

        def compile_(original: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                hooks.compiled = True
                hooks._forwards_off()
                if hooks.watcher is not None:
                    hooks.watcher.log.unwatched[FORWARDS] = "torch.compile would compile the hooks with the model"
                return original(*args, **kwargs)

            return wrapper

        self.put(torch, "compile", compile_)

    def _modules(self) -> None:
        hooks, tell = self, self.tell

        def train(original: Any) -> Any:
            depth = 0

            def wrapper(self: Any, mode: bool = True) -> Any:
                nonlocal depth
                if depth or hooks.watcher is None:
                    return original(self, mode)
                tell("modes", Watcher.on_mode, self, mode)
                depth += 1
                try:
                    return original(self, mode)
                finally:
                    depth -= 1

            return wrapper

        self.put(nn.Module, "train", train)

        def reset(original: Any) -> Any:
            def wrapper(self: Any) -> Any:
                tell("modes", Watcher.on_reset, self)
                return original(self)

            return wrapper

        self.put(nn.modules.batchnorm._NormBase, "reset_running_stats", reset)

        def update_bn(original: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                watcher = hooks.watcher
                if watcher is None:
                    return original(*args, **kwargs)
                watcher.suspended += 1
                try:
                    return original(*args, **kwargs)
                finally:
                    watcher.suspended -= 1

            return wrapper

        self.put(torch.optim.swa_utils, "update_bn", update_bn)

    def _loaders(self) -> None:
        hooks, tell = self, self.tell

        def begin(watcher: Watcher, loader: Any) -> SeenPass:
            which = watcher.data.making = watcher.data.begin(loader, watcher.tick())
            watcher.sampling.look(batches=4)
            watcher.look()
            return which

        def made(watcher: Watcher) -> None:
            watcher.data.making = None

        def iterate(original: Any) -> Any:
            def wrapper(self: Any) -> Any:
                which = tell("data", begin, self)
                try:
                    iterator = original(self)
                finally:
                    tell("data", made)
                if which is not None and isinstance(iterator, dataloader_module._BaseDataLoaderIter):
                    setattr(iterator, hooks.mark, which)
                return iterator

            return wrapper

        def batch(watcher: Watcher, which: SeenPass) -> None:
            watcher.data.on_batch(which)
            watcher.sampling.on_batch(in_training=which.backwards > 0)
            if watcher.closely != watcher.sampling.closely:
                watcher.look()

        def end(watcher: Watcher, which: SeenPass) -> None:
            watcher.data.on_end(which)

        def following(original: Any) -> Any:
            def wrapper(self: Any) -> Any:
                which = self.__dict__.get(hooks.mark)
                if which is None or hooks.watcher is None:
                    return original(self)
                try:
                    data = original(self)
                except StopIteration:
                    tell("data", end, which)
                    raise
                tell("data", batch, which)
                return data

            return wrapper

        def sampler(original: Any) -> Any:
            def getter(self: Any) -> Any:
                found = original.fget(self)
                watcher = hooks.watcher
                return found if watcher is None or watcher.data.making is None else RecordedSampler(found, watcher.data)

            return property(getter)

        self.put(DataLoader, "__iter__", iterate)
        self.put(DataLoader, "_index_sampler", sampler)
        self.put(dataloader_module._BaseDataLoaderIter, "__next__", following)

    def _schedules(self) -> None:
        tell, depth = self.tell, [0]

        def init(original: Any) -> Any:
            def wrapper(self: Any, optimizer: Any = None, *args: Any, **kwargs: Any) -> Any:
                depth[0] += 1
                try:
                    result = original(self, optimizer, *args, **kwargs)
                finally:
                    depth[0] -= 1
                if depth[0] == 0:
                    tell("schedules", lambda watcher: watcher.schedules.made(self, optimizer, kwargs))
                return result

            return wrapper

        def step(original: Any) -> Any:
            def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
                if depth[0] == 0:
                    tell("schedules", lambda watcher: watcher.schedules.stepped(self))
                depth[0] += 1
                try:
                    return original(self, *args, **kwargs)
                finally:
                    depth[0] -= 1

            return wrapper

        def load(original: Any) -> Any:
            def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
                tell("schedules", lambda watcher: watcher.schedules.loaded(self))
                return original(self, *args, **kwargs)

            return wrapper

        def get_lr(original: Any) -> Any:
            def wrapper(self: Any) -> Any:
                if depth[0] == 0:
                    tell("schedules", lambda watcher: watcher.schedules.asked(self))
                return original(self)

            return wrapper

        bases = (lr_scheduler.LRScheduler, lr_scheduler.ReduceLROnPlateau)
        classes = [one for one in vars(lr_scheduler).values() if isinstance(one, type) and issubclass(one, bases)]
        for one in dict.fromkeys(classes):
            for name, make in (("__init__", init), ("step", step), ("load_state_dict", load), ("get_lr", get_lr)):
                if name in vars(one):
                    self.put(one, name, make)

    def _clipping(self) -> None:
        hooks, tell = self, self.tell

        def clip(original: Any) -> Any:
            def wrapper(parameters: Any, *args: Any, **kwargs: Any) -> Any:
                watcher = hooks.watcher
                if torch.compiler.is_compiling():
                    return original(parameters, *args, **kwargs)
                if watcher is not None and (watcher.closely or not isinstance(parameters, torch.Tensor | list)):
                    one = isinstance(parameters, torch.Tensor)
                    given = [parameters] if one else list(parameters)
                    used_up = not given and hasattr(parameters, "__next__")
                    parameters = parameters if one or isinstance(parameters, list) else given
                    bound = args[0] if args else next(iter(kwargs.values()), 0.0)
                    if watcher.closely or used_up:
                        tell("clipping", Watcher.on_clip, given, used_up, float(bound))
                return original(parameters, *args, **kwargs)

            return wrapper

        for name in ("clip_grad_norm_", "clip_grad_value_"):
            for owner in (nn.utils, nn.utils.clip_grad):
                self.put(owner, name, clip)

    def _scaling(self) -> None:
        hooks, tell = self, self.tell

        def scale(original: Any) -> Any:
            def wrapper(self: Any, outputs: Any) -> Any:
                scaled = original(self, outputs)
                if self.is_enabled():
                    tell("scaling", Watcher.on_scale, scaled)
                return scaled

            return wrapper

        def count(watcher: Watcher) -> None:
            watcher.log.scaler_steps += 1
            watcher.log.scaler_step = watcher.log.scaler_step or watcher.site("scaler")

        def step(original: Any) -> Any:
            def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
                watcher = hooks.watcher
                if watcher is None or not self.is_enabled():
                    return original(self, *args, **kwargs)
                tell("scaling", count)
                watcher.in_scaler += 1
                try:
                    return original(self, *args, **kwargs)
                finally:
                    watcher.in_scaler -= 1

            return wrapper

        def unscale(original: Any) -> Any:
            def wrapper(self: Any, optimizer: Any) -> Any:
                result = original(self, optimizer)
                if self.is_enabled():
                    tell("scaling", Watcher.on_unscale, optimizer)
                return result

            return wrapper

        def update(original: Any) -> Any:
            def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
                if hooks.watcher is not None and self.is_enabled():
                    hooks.watcher.log.scaler_updates += 1
                return original(self, *args, **kwargs)

            return wrapper

        for name, make in (("scale", scale), ("unscale_", unscale), ("step", step), ("update", update)):
            self.put(torch.amp.GradScaler, name, make)


@contextmanager
def installed(watcher: Watcher | None = None) -> Iterator[Hooks]:
    """Put the hooks in for a block."""
    hooks = Hooks()
    hooks.put_in()
    hooks.watch(watcher)
    try:
        yield hooks
    finally:
        hooks.watch(None)
        hooks.take_out()
