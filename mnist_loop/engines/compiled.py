"""Several whole steps (input, forward, loss, backward, update) as one compiled function, on resident data.

The steps are recorded as they run: autograd and the optimizer are torch's own, and what they compute is written down
by `make_fx` and given to torch's compiler, Inductor. What was compiled is tried against the lesson's loop before it is
used. The first batch of an epoch, a last one that is smaller, and what is left over are trained by the lesson's loop:
so the optimizer's state is there, and nothing is compiled in the middle of training.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice, starmap
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnist_loop import loop
from mnist_loop.data import normalise
from mnist_loop.engines import contract, trials
from mnist_loop.engines.contract import SizedLoader, hooked
from mnist_loop.engines.program import Function, Steps, compile_for, state_of
from mnist_loop.engines.resident import ResidentLoader, make_loaders
from mnist_loop.loop import Loader, LossFunction, evaluate, mean, to_device, zero
from mnist_loop.support.device import synchronise

__all__ = ["evaluate", "make_loaders", "prepare", "train_one_epoch"]

STEPS = range(8, 17)  # in one call; of these, what leaves the fewest batches of an epoch over
AT_ONCE = STEPS[0]  # of batches that come one by one, whose number is not known
LEAD = 1  # batches at the beginning of an epoch that the lesson's loop trains
CHECKED = 2  # calls whose result is compared with the lesson's: a second one shows what depends on the number of calls
# By which share of its norm a result may differ from the lesson's, in units of the dtype's roundoff. A sum of n terms
# that is taken in another order differs by about sqrt(n) units, here 28 of the forward product and 8 to 40 of the
# others; each of up to 32 steps adds its own, and Adam divides by roots of what is near zero. What is computed wrongly
# differs by the first digits.
ROUNDINGS = 2**14
# Where a result differs by more, the lesson's loop is asked how far its own result goes when the parameters that it
# starts from are moved by some roundings, for max-pooling and ReLU jump where two near numbers change places. What was
# compiled may differ by FACTOR times that.
MOVES = 4
MOVED_BY = 2**6  # roundings
FACTOR = 4


@dataclass(frozen=True)
class Compiled:
    """Steps that were compiled, and how they are run.

    Attributes:
        function: changes the state, and returns the losses.
        of: the model and the loss function, which live as long as what was compiled for them: it is known by their ids.
        count: steps in a call.
        seconds: that compiling and the first call took.
        threads: that it was compiled for, the fastest number of those that were tried.
    """

    function: Function
    of: tuple[nn.Module, LossFunction]
    count: int
    seconds: float
    threads: int


_unsuitable = partial(contract.unsuitable, "compiled")

# What was compiled for an optimizer, and so for its model, lives as long as the optimizer.
_compiled: WeakKeyDictionary[Optimizer, dict[str, Compiled]] = WeakKeyDictionary()


def prepare(
    model: nn.Module, loader: SizedLoader, loss_fn: LossFunction, optimizer: Optimizer, device: torch.device | str
) -> str:
    """Compile for the batches of ``loader``, and try with how many threads it is fastest, up to torch's present number.

    Raises:
        Unsuitable: no compiler, or a model, loss or optimizer that cannot be compiled to do what the loop does.
    """
    _check(model, optimizer, device)
    if not isinstance(loader, ResidentLoader):
        return ""
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
    """Train as `mnist_loop.loop.train_one_epoch` does; ``on_batch`` is called for some steps after all of them.

    The parameters are left without gradients. Where the loader is no `ResidentLoader`, its batches are gathered.

    Raises:
        Unsuitable: as in `prepare`.
    """
    _check(model, optimizer, device)
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


@dataclass(frozen=True)
class _Call:
    """Images and labels of one batch, or of several of one size."""

    images: Tensor
    labels: Tensor
    steps: int


def _steps_of(call: _Call) -> int:
    return call.steps


Trained = Iterator[tuple[Tensor, Tensor]]  # the losses of the steps (steps,), and the labels


def _one(
    calls: Iterable[_Call], model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer, device: torch.device | str
) -> Trained:
    """Train a batch at a time, by the lesson's loop."""
    for call in calls:
        yield _losses(model, [(_as_floats(call.images), call.labels)], loss_fn, optimizer, device), call.labels


def _losses(
    model: nn.Module,
    batches: Loader,
    loss_fn: LossFunction,
    optimizer: Optimizer,
    device: torch.device | str,
) -> Tensor:
    """Train by the lesson's loop; return the loss of each batch (steps,)."""
    losses: list[Tensor] = []
    loop.train_one_epoch(model, batches, loss_fn, optimizer, device, lambda _, loss: losses.append(loss))
    return torch.stack(losses)


def _many(calls: Iterable[_Call], model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer) -> Trained:
    """Train several batches at a time, by a compiled function."""
    with state_of(model, optimizer) as state:
        for call in calls:
            compiled = _get(call, model, loss_fn, optimizer)
            with _threads(compiled.threads), torch.no_grad():
                losses = compiled.function(state, call.images, call.labels)
            yield losses, call.labels


def _calls(loader: Loader, device: torch.device | str) -> Iterator[_Call]:
    """Yield the batches of an epoch: one, then some at a time, then one at a time."""
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
    """Return how many steps a call makes, so that the fewest of ``batches`` are left over; 0 where they are few."""
    if batches < STEPS[0]:
        return batches if batches > 1 else 0
    return min(STEPS, key=lambda steps: (batches % steps, steps))


def _get(call: _Call, model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer) -> Compiled:
    """Return what was compiled for such a call; compile it where that was not done yet."""
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    shape = call.steps, tuple(call.images.shape), call.images.dtype, call.images.device
    key = f"{id(model)} {id(loss_fn)} {shape} {groups} {trained} {torch.get_num_threads()}"
    known = _compiled.setdefault(optimizer, {})
    if key not in known:
        known[key] = _compile(call, model, loss_fn, optimizer)
    return known[key]


def _compile(call: _Call, model: nn.Module, loss_fn: LossFunction, optimizer: Optimizer) -> Compiled:
    """Compile, on copies, for as many threads as are fastest; try the result against the lesson's loop."""
    batches = list(zip(_as_floats(call.images).chunk(call.steps), call.labels.chunk(call.steps), strict=True))
    device = call.images.device
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a compiler about itself
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
                with _threads(threads):
                    function = compile_for(threads, recorded, *given)
                    losses = [function(*given) for _ in range(CHECKED)]
            except Exception as error:
                raise _unsuitable(f"torch's compiler fails here ({_first_line(error)})") from error
        synchronise(device)
        seconds = time.perf_counter() - began
        _compare(_results(torch.cat(losses), one, one_optimizer), lesson)
    return Compiled(function, (model, loss_fn), call.steps, seconds, threads)


def _fastest_threads(function: Function, state: Sequence[Tensor], images: Tensor, labels: Tensor) -> int:
    """Run ``function`` on copies with each number of threads that halves torch's present one; return the fastest."""
    most = torch.get_num_threads()
    if images.device.type != "cpu" or most == 1:
        return most
    numbers = [most >> halved for halved in range(most.bit_length())]
    copies = [tensor.clone() for tensor in state]

    def seconds(threads: int) -> float:
        with _threads(threads):
            return trials.seconds(partial(function, copies, images, labels))

    # By turns, so that what disturbs one disturbs the others. A disturbance makes none faster: the fastest time counts.
    rounds = [[seconds(threads) for threads in numbers] for _ in range(trials.COUNT)]
    return min(zip(map(min, zip(*rounds, strict=True)), numbers, strict=True))[1]


def _results(losses: Tensor, model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return copies of all that training changes, by name."""
    of_model = dict((*model.named_parameters(), *model.named_buffers()))
    with state_of(model, optimizer) as state:
        names = [*of_model, *(f"state {index} of the optimizer" for index in range(len(state) - len(of_model)))]
        return {"loss": losses, **{name: value.clone() for name, value in zip(names, state, strict=True)}}


def _move(model: nn.Module) -> None:
    """Change each parameter at random, by a share that is some roundings of its dtype."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + MOVED_BY * _unit(parameter) * torch.randn_like(parameter))


def _compare(found: dict[str, Tensor], lesson: Callable[[int], dict[str, Tensor]]) -> None:
    """Compare what was compiled with what the lesson's loop does, from the same parameters (0) or moved ones.

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


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if number != before:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if number != before:
            torch.set_num_threads(before)
