"""Runs a loop in a case and records what happens, through torch's public hooks.

Recording changes no result: neither a bit of a parameter nor a random number. Afterwards every hook is removed, and the
generators and flags are restored, also after a loop that raised.
"""

from __future__ import annotations

import dataclasses
import gc
import inspect
import itertools
import sys
import tempfile
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils._python_dispatch import TorchDispatchMode

from mnist_loop.support.authored import is_authored
from mnist_loop.support.horizon import horizon_of
from mnist_loop.verification.binding.contract import Contract, Trainee
from mnist_loop.verification.binding.objective import beside
from mnist_loop.verification.cases import world
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.recording import global_state
from mnist_loop.verification.recording.beside import Generators, copied, variables
from mnist_loop.verification.recording.divergence import HALVES
from mnist_loop.verification.recording.events import (
    Arrival,
    Beside,
    Call,
    Cleared,
    CopyForward,
    Draw,
    Event,
    Forward,
    LossCall,
    OptimizerStep,
    Pass,
    PlateauStep,
    Read,
    ScalerBuilt,
    Tensors,
)
from mnist_loop.verification.recording.recording import Recording, Schedule
from mnist_loop.verification.recording.returned import read_returned
from mnist_loop.verification.sandbox import scratch
from mnist_loop.verification.sandbox.scratch import refusal

UPDATE_BN = inspect.unwrap(update_bn).__code__  # it puts Dropout into train mode, too
LONGEST_MESSAGE = 1000  # characters of an exception's text that are told

# Added to the seed of a case:
OTHER_NUMBERS = 0xE7A1  # for a second evaluation, which must not depend on random numbers
OTHER_PROCESS = 0x5EED  # for a resumed training, which goes on in a process with other generator states


def record(contract: Contract, case: Case) -> Recording:
    """Run the loop once in ``case``.

    An exception of the loop is recorded; KeyboardInterrupt and SystemExit are raised.
    """
    before = global_state.snapshot()
    threads = global_state.live_threads()
    with global_state.generators_restored(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a caller's `-W error` must not make a loop raise
        try:
            torch.set_num_threads(1)
            global_state.seed_everything(case.seed)
            recorder = _Recorder(contract, case)
            running = global_state.snapshot()
            try:
                recorder.run()
            finally:
                left = global_state.restore(running)
        finally:
            global_state.restore(before)
    recording = recorder.recording
    recording.left = (*left, *recorder.hooks_left())
    recording.threads = global_state.threads_left(threads)
    return recording


class _Hook:
    """A hook on an object that the loop may copy, pickle or save; an unpickled copy does nothing.

    Args:
        call: called until `end`.
    """

    def __init__(self, call: Callable[..., object] | None = None) -> None:
        self.call = call

    def __call__(self, *args: Any) -> None:
        if self.call is not None:
            self.call(*args)

    def __deepcopy__(self, memo: object) -> _Hook:
        return self

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()

    def end(self) -> None:
        self.call = None


class _Token:
    """An object that a weak reference can point to."""


@dataclass
class _Graphs:
    """Tells which forwards' graphs are alive: the last node of each graph holds a token."""

    tokens: list[tuple[int, weakref.ref[_Token]]] = field(default_factory=list)

    def mark(self, number: int, outputs: Tensor) -> None:
        if outputs.grad_fn is not None:
            token = _Token()
            metadata: dict[Any, Any] = outputs.grad_fn.metadata  # type: ignore[assignment]  # a property, in truth
            metadata[_Token] = token
            self.tokens.append((number, weakref.ref(token)))

    def alive(self) -> tuple[int, ...]:
        self.tokens = [(number, token) for number, token in self.tokens if token() is not None]
        return tuple(number for number, _ in self.tokens)


class _Saved:
    """A tensor that autograd saved for a backward pass."""

    def __init__(self, tensor: Tensor, forward: int) -> None:
        self.tensor, self.forward = tensor, forward


class _WatchOperations(TorchDispatchMode):
    """Calls ``on_read`` whenever Python reads the value of a tensor, and ``on_half`` for a result in half precision."""

    def __init__(self, on_read: Callable[[], None], on_half: Callable[[], None]) -> None:
        super().__init__()
        self.on_read, self.on_half = on_read, on_half

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            self.on_read()
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype in HALVES:
            self.on_half()
        return result


class _Recorder:
    def __init__(self, contract: Contract, case: Case) -> None:
        self.contract, self.case = contract, case
        self.world = world.build(
            case, contract.intentions, world.Listener(lambda split: self.add(Pass(split)), self.on_sample)
        )
        self.names: dict[int, str] = {}
        self.recording = Recording(
            case=case,
            declared=contract.plain_intentions,
            roles=contract.roles,
            evaluate_roles=contract.evaluate_roles,
            whole_fit=contract.whole_fit,
            trainable=frozenset(name for name, p in self.world.model.named_parameters() if p.requires_grad),
            parameters=tuple(name for name, _ in self.world.model.named_parameters()),
            start=self.state(),
        )
        self.graphs = _Graphs()
        self.saved: weakref.WeakSet[_Saved] = weakref.WeakSet()
        self.forwards: list[Forward] = []
        self.optimizers: dict[int, int] = {}
        self.keep: list[Optimizer] = []  # alive, so that no `id` in `optimizers` is used again
        self.steps: list[tuple[OptimizerStep, int]] = []  # those in progress, with the number of forwards before each
        self.hooks = _count_hooks(self.world.model)
        self.schedules: list[LRScheduler] = []
        self.averages: list[AveragedModel] = []
        self.called = False  # the model is within its forward
        objective = contract.intentions.objective
        self.beside = None if objective is None else [*beside(objective)]  # the variables that the objective takes
        self.begun: Generators | None = None

    # -- the run -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        with ExitStack() as stack:
            self.watch(stack)
            if self.case.resume or "path" in self.contract.roles:
                stack.enter_context(self.checkpoint_folder())
            trainee = self.begin()
            epochs = [0] if self.contract.whole_fit else range(1, self.case.epochs + 1)
            for epoch in epochs:
                if trainee is None or not self.call("train", epoch, trainee):
                    break
                if self.contract.evaluation is not None and epoch and not self.call("evaluate", epoch, trainee):
                    break
                if self.case.resume and epoch == self.case.epochs // 2:
                    trainee = self.resume(trainee)
            else:
                evaluating = None if self.contract.evaluation is None else trainee
                # A second time with other random numbers, which must not change the result.
                if evaluating is not None and self.call("evaluate", 0, evaluating):
                    global_state.seed_everything(OTHER_NUMBERS + self.case.seed)
                    self.call("evaluate", 0, evaluating)
        self.recording.end = self.state()
        inner = {id(part) for one in self.schedules for part in getattr(one, "_schedulers", ())}
        own = [one for one in self.schedules if id(one) not in inner and one is not self.world.scheduler]
        self.recording.schedules = tuple(_read_schedule(one) for one in own)
        if self.mixes_targets():
            declared = dataclasses.replace(self.recording.declared, own_objective=True)
            self.recording.declared = declared

    def mixes_targets(self) -> bool:
        """Return whether the loss of the same outputs is taken with several targets, as mixup and CutMix do."""
        calls = [event for event in self.recording.events if isinstance(event, LossCall)]
        return any(
            torch.equal(one.outputs, other.outputs) and not torch.equal(one.targets, other.targets)
            for one, other in itertools.pairwise(calls)
        )

    def begin(self) -> Trainee | None:
        """Make the instance of a class; record an exception as a call."""
        call = self.new_call("train", 0)
        trainee = None
        try:
            trainee = self.contract.begin(self.world.values)
        except Exception as error:  # noqa: BLE001  # whatever a stranger's constructor raises
            _note(call, error)
            self.add(call)
            self.end_call(call)
        return trainee

    def call(self, what: Literal["train", "evaluate"], epoch: int, trainee: Trainee) -> bool:
        """Call the loop once; return whether it returned."""
        call = self.new_call(what, epoch)
        self.add(call)
        self.world.values["epoch"] = epoch or self.case.epochs
        try:
            with self.watch_closely():
                returned = trainee.train(self.world.values) if what == "train" else trainee.evaluate(self.world.values)
            call.result = read_returned(returned, trainee.yielded if what == "train" else [])
        except Exception as error:  # noqa: BLE001  # whatever a stranger's loop raises
            _note(call, error)
        self.end_call(call)
        return call.error is None

    def new_call(self, what: Literal["train", "evaluate"], epoch: int) -> Call:
        return Call(what, epoch, self.state(), self.gradients(), modes_before=self.eval_modules())

    def end_call(self, call: Call) -> None:
        call.after, call.gradients_after = self.state(), self.gradients()
        call.modes_after = self.eval_modules()
        call.end = len(self.recording.events)

    # -- a training that is saved and resumed --------------------------------------------------------------------------

    @contextmanager
    def checkpoint_folder(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory(dir=scratch.temporary()) as folder:
            self.world.values["path"] = str(Path(folder) / "checkpoint.pt")
            yield

    def resume(self, trainee: Trainee) -> Trainee | None:
        """Save, make everything anew with other weights and other random numbers, and load."""
        call = self.new_call("train", 0)
        try:
            trainee.save(self.world.values)
            other = world.build(self.case.but(seed=self.case.seed + 1), self.contract.intentions)
            data = {name: self.world.values[name] for name in self.world.values if name.endswith(("_set", "_loader"))}
            other.values.update(data, path=self.world.values["path"], seed=self.case.seed)
            global_state.seed_everything(OTHER_PROCESS + self.case.seed)
            self.world = other
            with ExitStack() as stack:
                self.watch_model(stack)
                self.again = stack.pop_all()
            fresh = self.contract.begin(self.world.values)
            fresh.load(self.world.values)
        except Exception as error:  # noqa: BLE001  # whatever a stranger's functions raise
            _note(call, error)
            self.add(call)
            self.end_call(call)
            return None
        return fresh

    # -- what is watched -----------------------------------------------------------------------------------------------

    def watch(self, stack: ExitStack) -> None:
        self.again = ExitStack()
        stack.callback(lambda: self.again.close())
        self.watch_model(stack)
        stack.callback(register_optimizer_step_pre_hook(self.before_step).remove)
        stack.callback(register_optimizer_step_post_hook(self.after_step).remove)
        stack.enter_context(_plateaus_watched(self.on_plateau))
        stack.enter_context(_made(LRScheduler, self.schedules.append))
        stack.enter_context(_made(torch.amp.GradScaler, self.on_scaler))
        stack.enter_context(_made(AveragedModel, self.on_averaged))
        if self.contract.intentions.clip is not None:
            for owner in (Optimizer, nn.Module):
                stack.enter_context(_clearing_watched(owner, self.on_clear))

    def watch_model(self, stack: ExitStack) -> None:
        model = self.world.model
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.optimizers.setdefault(id(self.world.optimizer), 0)
        self.keep.append(self.world.optimizer)

        before, after, after_loss = _Hook(self.before_forward), _Hook(self.after_forward), _Hook(self.after_loss)
        for hook in (before, after, after_loss):
            stack.callback(hook.end)
        stack.callback(model.register_forward_pre_hook(before, with_kwargs=True).remove)
        stack.callback(model.register_forward_hook(after).remove)
        if self.contract.calls_forward:
            stack.enter_context(self.watch_forward(type(model)))
        stack.callback(self.world.loss_fn.register_forward_hook(after_loss).remove)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                arrived = _Hook(partial(self.on_arrival, name))
                stack.callback(parameter.register_post_accumulate_grad_hook(arrived).remove)

    @contextmanager
    def watch_forward(self, kind: type[nn.Module]) -> Iterator[None]:
        """Watch the calls of ``forward`` below ``__call__``, which have no hooks."""
        own, forward = vars(kind).get("forward"), kind.forward

        def watched(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if self.called or model is not self.world.model or torch.compiler.is_compiling():
                return forward(model, *args, **kwargs)
            self.before_forward(model, args, kwargs)
            outputs = forward(model, *args, **kwargs)
            self.after_forward(model, args, outputs)
            return outputs

        kind.forward = watched
        try:
            yield
        finally:
            if own is None:
                del kind.forward
            else:
                kind.forward = own

    @contextmanager
    def watch_closely(self) -> Iterator[None]:
        """Watch saved tensors or reads, in cases of their own: this is slow, and compilers fail under it."""
        with ExitStack() as stack:
            if self.case.watch == "graphs":
                stack.enter_context(torch.autograd.graph.saved_tensors_hooks(self.pack, _unpack))
                own = weakref.WeakSet(self.world.model.modules())
                stack.callback(register_module_forward_pre_hook(partial(self.on_module, own)).remove)
            if self.case.watch == "reads":
                stack.enter_context(_WatchOperations(self.on_read, self.on_half))
            yield

    def pack(self, tensor: Tensor) -> _Saved:
        # What is saved outside the model's forward, as for the largest outputs, no backward pass need free.
        saved = _Saved(tensor, len(self.forwards) - 1 if self.called else -1)
        self.saved.add(saved)
        return saved

    def on_clear(self) -> None:
        self.add(Cleared(self.gradients()))

    def on_module(self, own: weakref.WeakSet[nn.Module], module: nn.Module, args: Any) -> None:  # noqa: ARG002
        depends = isinstance(module, _BatchNorm | _DropoutNd)
        # `update_bn` has BatchNorm average over all batches, by taking its momentum away.
        averages = isinstance(module, _BatchNorm) and (module.momentum is None or not module.track_running_stats)
        if not depends or not module.training or averages or torch.is_grad_enabled() or module in own:
            return
        if not any(frame.f_code is UPDATE_BN for frame, _ in traceback.walk_stack(None)):
            self.add(Beside(type(module).__name__))

    def on_plateau(self, mode: str, value: Any) -> None:
        self.add(PlateauStep(mode, float(value)))

    def on_scaler(self, scaler: torch.amp.GradScaler) -> None:
        if scaler.is_enabled():
            self.add(ScalerBuilt())

    def on_averaged(self, averaged: AveragedModel) -> None:
        if averaged.avg_fn is None and averaged.multi_avg_fn is None:
            self.averages.append(averaged)

    def on_read(self) -> None:
        if not self.steps:  # not the optimizer's own reads
            self.add(Read())

    def on_half(self) -> None:
        self.recording.half = True

    def on_arrival(self, name: str, parameter: Tensor) -> None:  # noqa: ARG002  # torch hands it to its hooks
        self.add(Arrival(name))

    def on_sample(self, split: str, index: int) -> None:
        self.add(Draw(split, index))
        if self.beside is not None:
            self.begun = Generators.read()

    def add(self, event: Event) -> None:
        event.time = len(self.recording.events)
        self.recording.events.append(event)

    # -- hooks ---------------------------------------------------------------------------------------------------------

    def before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if torch.compiler.is_compiling():
            self.recording.compiled = True
            return
        if module is not self.world.model:
            self.recording.copied += 1
            if not torch.is_grad_enabled():
                averages = any(one.module is module for one in self.averages)
                self.add(CopyForward(_eval_modules(module), _state(module), self.state(), averages))
            return
        inputs = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), torch.empty(0))
        if inputs.is_meta:
            return  # a framework infers shapes
        device = inputs.device
        self.called = True
        alive = self.graphs.alive()
        if len(alive) > 1:
            gc.collect()  # a graph in a reference cycle is no leak
            alive = self.graphs.alive()
        finished = [s for s in self.saved if s.forward >= 0 and self.forwards[s.forward].output_gradients]
        forward = Forward(
            inputs=_copy(inputs),
            eval_modules=self.eval_modules(),
            grad=torch.is_grad_enabled(),
            rng=torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state(),
            state=self.state(),
            trainable=frozenset(name for name, p in module.named_parameters() if p.requires_grad),
            alive=alive,
            kept=len(finished),
            gradients=self.gradients(),
            begun=self.begun,
        )
        self.add(forward)
        self.forwards.append(forward)

    def after_forward(self, module: nn.Module, args: Any, outputs: Any) -> None:  # noqa: ARG002  # torch's signature
        if torch.compiler.is_compiling() or module is not self.world.model:
            return
        self.called = False
        place = self.contract.intentions.output
        if place is not None and isinstance(outputs, list | tuple) and len(outputs) > place:
            outputs = outputs[place]
        if not isinstance(outputs, Tensor):
            return
        if outputs.is_meta:
            return
        forward = self.forwards[-1]
        forward.outputs = _copy(outputs)
        forward.differentiable = outputs.requires_grad
        if outputs.requires_grad:
            self.graphs.mark(len(self.forwards) - 1, outputs)
            received = forward.output_gradients
            found = self.variables()

            def on_gradient(gradient: Tensor) -> None:
                received.append(_copy(gradient))
                if self.beside is not None:
                    # On a GPU another thread is here, in which no function of the loop runs.
                    forward.beside, forward.backward = copied({**found, **self.variables()}), Generators.read()

            outputs.register_hook(on_gradient)

    def variables(self) -> dict[str, Any]:
        """Return what the objective takes of the loop's variables, or else of what the loop was handed."""
        names = self.beside or []
        handed = {name: self.world.values[name] for name in names if name in self.world.values}
        return {**handed, **variables(names, sys._getframe(), _Recorder.call.__code__)}

    def after_loss(self, module: nn.Module, args: tuple[Any, ...], value: Any) -> None:
        if module is not self.world.loss_fn:
            return
        if torch.compiler.is_compiling() or len(args) != 2 or not all(isinstance(part, Tensor) for part in args):
            return
        place = self.contract.intentions.loss_output
        value = value if place is None else value[place]
        if isinstance(value, Tensor):
            self.add(LossCall(_copy(args[0]), _copy(args[1]), _copy(value)))

    def before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if id(optimizer) not in self.optimizers:
            self.optimizers[id(optimizer)] = max(self.optimizers.values()) + 1
            self.keep.append(optimizer)
        lr, options, strangers = {}, {}, 0
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = self.names.get(id(parameter))
                strangers += name is None
                if name is not None:
                    lr[name] = float(group.get("lr", 0.0))
                    options[name] = {key: value for key, value in group.items() if _is_plain(value)}
        closure = any(callable(value) for value in (*args[1:], *kwargs.values()))
        number = self.optimizers[id(optimizer)]
        kind = type(optimizer).__name__
        step = OptimizerStep(
            number, kind, lr, strangers, self.gradients(), self.parameters(), closure=closure, options=options
        )
        self.steps.append((step, len(self.forwards)))

    def after_step(self, *_: Any) -> None:
        if not self.steps:
            return
        step, forwards = self.steps.pop()
        step.after = self.parameters()
        if step.closure and len(self.forwards) == forwards + 1:
            # A closure that is called once is plain training: the step applied the gradients that it computed.
            step.closure, step.gradients = False, self.gradients()
        self.add(step)  # here, after the forwards of its closure

    # -- the state of the model ----------------------------------------------------------------------------------------

    def parameters(self) -> Tensors:
        return {name: _copy(p) for name, p in self.world.model.named_parameters()}

    def state(self) -> Tensors:
        return _state(self.world.model)

    def gradients(self) -> Tensors:
        return {name: _copy(p.grad) for name, p in self.world.model.named_parameters() if p.grad is not None}

    def eval_modules(self) -> tuple[str, ...]:
        return _eval_modules(self.world.model)

    def hooks_left(self) -> tuple[str, ...]:
        return ("hooks on the model",) if _count_hooks(self.world.model) > self.hooks else ()


@contextmanager
def _plateaus_watched(on_step: Callable[[str, Any], None]) -> Iterator[None]:
    """Report each step of a ReduceLROnPlateau, which torch has no hook for."""
    step = ReduceLROnPlateau.step

    @wraps(step)
    def watched(self: ReduceLROnPlateau, metrics: Any, *args: Any, **kwargs: Any) -> None:
        on_step(self.mode, metrics)
        step(self, metrics, *args, **kwargs)

    ReduceLROnPlateau.step = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        ReduceLROnPlateau.step = step  # type: ignore[method-assign]


@contextmanager
def _clearing_watched(owner: type[Optimizer | nn.Module], on_clear: Callable[[], None]) -> Iterator[None]:
    """Report each call of ``zero_grad``, before it clears."""
    clear = owner.zero_grad

    @wraps(clear)
    def watched(self: Any, *args: Any, **kwargs: Any) -> None:
        if not torch.compiler.is_compiling():
            on_clear()
        clear(self, *args, **kwargs)

    owner.zero_grad = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        owner.zero_grad = clear  # type: ignore[method-assign]


@contextmanager
def _made(kind: Any, on_made: Callable[[Any], None]) -> Iterator[None]:
    """Report each schedule, or scaler, that is made, which torch has no hook for."""
    begin = kind.__init__

    @wraps(begin)
    def watched(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        on_made(self)

    kind.__init__ = watched
    try:
        yield
    finally:
        kind.__init__ = begin


def _read_schedule(schedule: LRScheduler) -> Schedule:
    return Schedule(type(schedule).__name__, schedule.last_epoch, horizon_of(schedule))


def _eval_modules(model: nn.Module) -> tuple[str, ...]:
    return tuple(name or "the model" for name, part in model.named_modules() if not part.training)


def _state(model: nn.Module) -> Tensors:
    """Copy parameters and buffers to the CPU."""
    return {name: _copy(value) for name, value in (*model.named_parameters(), *model.named_buffers())}


def _copy(tensor: Tensor) -> Tensor:
    """Copy a tensor to the CPU."""
    return tensor.detach().to("cpu", copy=True)


def _is_plain(option: object) -> bool:
    plain = (int, float, bool, type(None))
    return isinstance(option, plain) or (isinstance(option, tuple) and all(isinstance(part, plain) for part in option))


def _unpack(saved: _Saved) -> Tensor:
    return saved.tensor


def _count_hooks(model: nn.Module) -> int:
    return sum(
        len(hooks)
        for module in model.modules()
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    )


def _note(call: Call, error: BaseException) -> None:
    """Note the exception of a call, with the innermost line in the files of the loop's author.

    Raises:
        WriteRefused: the sandbox refused what the loop writes, which is no bug of the loop.
    """
    if (refused := refusal(error)) is not None:
        raise refused from None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_authored(frame.filename)]
    text = str(error)[:LONGEST_MESSAGE].strip()
    message = text.splitlines()[0] if text else ""
    call.error_type, call.error_message = type(error).__name__, message
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""
    call.error = f"{type(error).__name__}: {message}{where}"
