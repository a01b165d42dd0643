"""Several whole steps (input, forward, loss, backward, update) as one compiled function, on resident data.

Measured: 317k images/s at batch size 64, 14.6 times as fast as `reference` (AMD EPYC, 2 threads, torch 2.15.0, 20
epochs; docs/engines.md).

`make_fx` records the steps while torch's own autograd and optimizer run them. Inductor, torch's compiler, compiles the
record. The result is compared with the lesson's loop before it is used. The first batch of an epoch, a smaller last
one, and batches that do not fill a call are trained by the lesson's loop. So the optimizer's state exists before a
call, and nothing is compiled during training.

Linear layers with ReLU on resident data are trained by the kernels of `native` where a timed trial says that they are
faster.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice, starmap
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnist_loop import loop
from mnist_loop.data import normalise
from mnist_loop.engines import contract, native, trials
from mnist_loop.engines.contest import native_is_faster
from mnist_loop.engines.contract import SizedLoader, hooked
from mnist_loop.engines.layers import layers_of
from mnist_loop.engines.program import Function, Steps, compile_for, state_of
from mnist_loop.engines.resident import ResidentLoader, make_loaders
from mnist_loop.loop import Loader, LossFunction, evaluate, mean, to_device, zero
from mnist_loop.support.device import synchronise

__all__ = ["evaluate", "make_loaders", "prepare", "train_one_epoch"]

STEPS = range(8, 17)  # steps in one call: the number that leaves the fewest batches of an epoch over is chosen
AT_ONCE = STEPS[0]  # steps in a call if the loader yields its batches one by one, so that their number is unknown
LEAD = 1  # batches at the beginning of an epoch that the lesson's loop trains
CHECKED = 2  # calls whose result is compared with the lesson's; the second shows what depends on the call's number
# How far a result may differ from the lesson's, relative to its norm, in units of the dtype's roundoff. A sum of n
# terms in another order differs by about sqrt(n) units: here 28 for the forward product and 8 to 40 for the others.
# Each of up to 32 steps adds its own difference, and Adam divides by roots of values near zero. A wrong result differs
# in its first digits.
ROUNDINGS = 2**14
# Max-pooling and ReLU can amplify rounding when two inputs are nearly equal. So if a result differs by more, the
# lesson's loop runs again from parameters that are moved by some roundings, and the compiled result may differ by
# FACTOR times as much as these runs do.
MOVES = 4
MOVED_BY = 2**6  # roundings
FACTOR = 4


@dataclass(frozen=True)
class Compiled:
    """Compiled steps, and how to run them.

    Attributes:
        function: changes the state and returns the losses.
        of: the model and the loss function. They are kept alive, because the cache knows them by their ids.
        count: steps in a call.
        seconds: the time of compiling and of the first calls.
        threads: the number of CPU threads it was compiled for, which was the fastest.
    """

    function: Function
    of: tuple[nn.Module, LossFunction]
    count: int
    seconds: float
    threads: int


_unsuitable = partial(contract.unsuitable, "compiled")

# Compiled steps by optimizer; they live as long as the optimizer.
_compiled: WeakKeyDictionary[Optimizer, dict[str, Compiled]] = WeakKeyDictionary()


def prepare(
    model: nn.Module, loader: SizedLoader, loss_fn: LossFunction, optimizer: Optimizer, device: torch.device | str
) -> str:
    """Compile for the batches of ``loader``, for the fastest number of threads up to torch's current number.

    Raises:
        Unsuitable: there is no compiler, or model, loss or optimizer cannot be compiled with the same result.
    """
    _check(model, optimizer, device)
    if not isinstance(loader, ResidentLoader):
        return ""
    if _is_for_native(model, loader, loss_fn, optimizer, device):
        return f"the kernels of native are faster: {native.prepare(model, loader, loss_fn, optimizer, device)}"
    steps = _best_steps(len(loader.labels) // loader.batch_size - LEAD)
    if steps == 0:
        return "an epoch has too few batches to compile for: the lesson's loop trains them"
    images = steps * loader.batch_size
    found = _get(_Call(loader.images[:images], loader.labels[:images], steps), model, loss_fn, optimizer)
    most = torch.get_num_threads()
    chosen = f"; {found.threads} of {most} threads are fastest" if most > 1 else ""
    return f"compiled {steps} steps as one function in {found.seconds:.1f} s{chosen}"


def train_one_epoch(
    model: nn.Module,
    loader: Loader,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
    on_batch: Callable[[int, Tensor], None] | None = None,
) -> float:
    """Train as `mnist_loop.loop.train_one_epoch` does; ``on_batch`` is called after a group of steps, once for each.

    The parameters are left without gradients. If the loader is not a `ResidentLoader`, batches are collected into
    groups.

    Raises:
        Unsuitable: as in `prepare`.
    """
    _check(model, optimizer, device)
    if _is_for_native(model, loader, loss_fn, optimizer, device):
        return native.train_one_epoch(model, loader, loss_fn, optimizer, device, on_batch)
    model.train()
    total, count, batch = zero(device), 0, 0
    for at_once, calls in groupby(_calls(loader, device), key=_steps_of):
        train = partial(_one, device=device) if at_once == 1 else _many
        for losses, labels in train(calls, model, loss_fn, optimizer):
            total.add_(losses.sum(dtype=total.dtype), alpha=len(labels) // at_once)
            count += len(labels)
            if on_batch is not None:
                for number, loss in enumerate(losses.unbind(), start=batch):
                    on_batch(number, loss)
            batch += at_once
    optimizer.zero_grad()
    return mean(total, count)


def _is_for_native(
    model: nn.Module, loader: Loader, loss_fn: LossFunction, optimizer: Optimizer, device: torch.device | str
) -> bool:
    """Whether `native` can train this, and faster. Its weights stay packed for an epoch of resident data."""
    if not isinstance(loader, ResidentLoader) or any(one.dtype != torch.float32 for one in model.parameters()):
        return False
    try:
        native.prepare(model, loader, loss_fn, optimizer, device)
    except contract.Unsuitable:
        return False
    layers = layers_of(model)
    assert layers is not None
    linear, momentum = layers.of(model), optimizer.param_groups[0]["momentum"]
    widths = (linear[0].in_features, *(layer.out_features for layer in linear))
    return native_is_faster(widths, loader.batch_size, momentum)


@dataclass(frozen=True)
class _Call:
    """Images and labels of one batch, or of several batches of equal size."""

    images: Tensor
    labels: Tensor
    steps: int


def _steps_of(call: _Call) -> int:
    return call.steps


Trained = Iterator[tuple[Tensor, Tensor]]  # the losses of the steps (steps,), and the labels


def _one(
    calls: Iterable[_Call], model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer, device: torch.device | str
) -> Trained:
    """Train one batch at a time, with the lesson's loop."""
    for call in calls:
        yield _losses(model, [(_as_floats(call.images), call.labels)], loss_fn, optimizer, device), call.labels


def _losses(
    model: nn.Module,
    batches: Loader,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
) -> Tensor:
    """Train with the lesson's loop; return the loss of each batch (steps,)."""
    losses: list[Tensor] = []
    loop.train_one_epoch(model, batches, loss_fn, optimizer, device, lambda _, loss: losses.append(loss))
    return torch.stack(losses)


def _many(calls: Iterable[_Call], model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer) -> Trained:
    """Train several batches at a time, with a compiled function."""
    with state_of(model, optimizer) as state:
        for call in calls:
            compiled = _get(call, model, loss_fn, optimizer)
            with trials.threads(compiled.threads), torch.no_grad():
                losses = compiled.function(state, call.images, call.labels)
            yield losses, call.labels


def _calls(loader: Loader, device: torch.device | str) -> Iterator[_Call]:
    """Yield the batches of an epoch: one alone, then several at a time, then the rest one at a time."""
    if isinstance(loader, ResidentLoader):
        size = loader.batch_size
        steps = _best_steps(len(loader.labels) // size - LEAD) or 1
        for images, labels in loader.chunks(steps, LEAD):
            if len(labels) == steps * size and steps > 1:
                yield _Call(images, labels, steps)
            else:
                yield from starmap(partial(_Call, steps=1), zip(images.split(size), labels.split(size), strict=True))
        return
    batches = ((to_device(images, device), to_device(labels, device)) for images, labels in loader)
    yield from starmap(partial(_Call, steps=1), islice(batches, LEAD))
    while gathered := list(islice(batches, AT_ONCE)):
        if len(gathered) == AT_ONCE and len({images.shape for images, _ in gathered}) == 1:
            images, labels = (torch.cat(tensors) for tensors in zip(*gathered, strict=True))
            yield _Call(images, labels, AT_ONCE)
        else:
            yield from starmap(partial(_Call, steps=1), gathered)


def _best_steps(batches: int) -> int:
    """Return the steps in a call that leave the fewest of ``batches`` over; 0 if there are too few batches."""
    if batches < STEPS[0]:
        return batches if batches > 1 else 0
    return min(STEPS, key=lambda steps: (batches % steps, steps))


def _get(call: _Call, model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer) -> Compiled:
    """Return the compiled steps for such a call; compile them at the first one."""
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    shape = call.steps, tuple(call.images.shape), call.images.dtype, call.images.device
    key = f"{id(model)} {id(loss_fn)} {shape} {groups} {trained} {torch.get_num_threads()}"
    known = _compiled.setdefault(optimizer, {})
    if key not in known:
        known[key] = _compile(call, model, loss_fn, optimizer)
    return known[key]


def _compile(call: _Call, model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer) -> Compiled:
    """Compile on copies for the fastest number of threads; compare the result with the lesson's loop."""
    batches = list(zip(_as_floats(call.images).chunk(call.steps), call.labels.chunk(call.steps), strict=True))
    device = call.images.device
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own warnings
        one, one_optimizer = copy.deepcopy((model, optimizer))
        one.train()
        if not optimizer.state:
            loop.train_one_epoch(one, batches[:1], loss_fn, one_optimizer, device)
            one_optimizer.zero_grad()

        def lesson(move: int) -> dict[str, Tensor]:
            other, other_optimizer = copy.deepcopy(start)
            if move:
                torch.manual_seed(move)
                _move(other)
            torch.manual_seed(0)
            losses = _losses(other, batches * CHECKED, loss_fn, other_optimizer, device)
            return _results(losses, other, other_optimizer)

        start = copy.deepcopy((one, one_optimizer))
        with state_of(one, one_optimizer) as state, torch.no_grad():
            given = state, call.images, call.labels
            try:
                recorded = Steps(one, loss_fn, one_optimizer, call.steps).record(*given)
                threads = _fastest_threads(recorded, *given)
                torch.manual_seed(0)
                with trials.threads(threads):
                    function = compile_for(threads, recorded, *given)
                    losses = [function(*given) for _ in range(CHECKED)]
            except Exception as error:
                raise _unsuitable(f"torch's compiler fails here ({_first_line(error)})") from error
        synchronise(device)
        seconds = time.perf_counter() - began
        _compare(_results(torch.cat(losses), one, one_optimizer), lesson)
    return Compiled(function, (model, loss_fn), call.steps, seconds, threads)


def _fastest_threads(function: Function, state: Sequence[Tensor], images: Tensor, labels: Tensor) -> int:
    """Time ``function`` on copies with torch's number of threads, half of it, and so on; return the fastest."""
    most = torch.get_num_threads()
    if images.device.type != "cpu" or most == 1:
        return most
    numbers = [most >> halved for halved in range(most.bit_length())]
    copies = [tensor.clone() for tensor in state]

    def seconds(threads: int) -> float:
        with trials.threads(threads):
            return trials.seconds(partial(function, copies, images, labels))

    # They take turns, so that a disturbance affects all. Disturbances only slow down, so the smallest time counts.
    rounds = [[seconds(threads) for threads in numbers] for _ in range(trials.COUNT)]
    return min(zip(map(min, zip(*rounds, strict=True)), numbers, strict=True))[1]


def _results(losses: Tensor, model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return copies of everything that training changes, by name."""
    of_model = dict((*model.named_parameters(), *model.named_buffers()))
    with state_of(model, optimizer) as state:
        names = [*of_model, *(f"state {index} of the optimizer" for index in range(len(state) - len(of_model)))]
        return {"loss": losses, **{name: value.clone() for name, value in zip(names, state, strict=True)}}


def _move(model: nn.Module) -> None:
    """Change each parameter at random, by some roundings of its dtype."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + MOVED_BY * _unit(parameter) * torch.randn_like(parameter))


def _compare(found: dict[str, Tensor], lesson: Callable[[int], dict[str, Tensor]]) -> None:
    """Compare the compiled result with the lesson's, from the same parameters (0) and, if needed, from moved ones.

    Raises:
        Unsuitable: they differ by more than rounding explains.
    """
    expected = lesson(0)
    apart = {name: _distance(found[name], value) for name, value in expected.items()}
    allowed = {name: ROUNDINGS * _unit(value) * max(_norm(value), 1.0) for name, value in expected.items()}
    for move in range(1, 1 + MOVES):
        if all(apart[name] <= allowed[name] for name in expected):
            return
        for name, value in lesson(move).items():
            allowed[name] = max(allowed[name], FACTOR * _distance(value, expected[name]))
    for name in expected:
        if not apart[name] <= allowed[name]:
            raise _unsuitable(
                f"what was compiled does not compute what the loop does ({name} differs by {apart[name]:.1e})"
            )


def _unit(values: Tensor) -> float:
    return torch.finfo(values.dtype).eps / 2 if values.is_floating_point() else 0.0


def _norm(values: Tensor) -> float:
    return float(values.double().norm())


def _distance(one: Tensor, other: Tensor) -> float:
    return _norm(one.double() - other.double())


def _check(model: nn.Module, optimizer: Optimizer, device: torch.device | str) -> None:
    where = hooked(model, optimizer)
    own = set(map(id, model.parameters()))
    if torch.device(device).type == "mps":
        raise _unsuitable("MPS has no float64")
    if where is not None:
        raise _unsuitable(f"{where} has hooks, which would not be called")
    for group in optimizer.param_groups:
        if isinstance(group.get("lr"), Tensor):
            raise _unsuitable("the learning rate is a tensor, expected a number")
        if not own.issuperset(map(id, group["params"])):
            raise _unsuitable("the optimizer holds other parameters than those of the model")


def _as_floats(images: Tensor) -> Tensor:
    return normalise(images) if images.dtype == torch.uint8 else images


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
