"""The recorder: it changes no result, leaves nothing behind, and what it says happened is what happened."""

import copy
import gc
import io
import math
import pickle
import random
import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import optimizer as optimizer_module
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.data import DataLoader

from mnist_loop.verification.binding.bind import bind
from mnist_loop.verification.binding.intentions import DEFAULT
from mnist_loop.verification.cases import world
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.recording import global_state as state_of_process
from mnist_loop.verification.recording.events import Arrival, Call, Draw, Forward, LossCall, OptimizerStep, Pass, Read
from mnist_loop.verification.recording.recorder import record
from tests import global_state

cases = st.builds(
    Case,
    model=st.sampled_from(sorted(world.MODELS)),
    optimizer=st.sampled_from(sorted(world.OPTIMIZERS)),
    dtype=st.sampled_from(["float32", "float64"]),
    loss=st.sampled_from(sorted({*world.LOSSES} - {"bce"})),  # it takes one-hot labels, which this loop does not make
    watch=st.sampled_from(["", "graphs", "reads"]),
    samples=st.integers(6, 9),
    batch_size=st.integers(3, 5).filter(lambda size: size != 4),  # no batch of one, which BatchNorm refuses
    seed=st.integers(0, 2**20),
).filter(lambda case: case.samples % case.batch_size != 1)


def recorded(loop, case=Case(), **declared):  # noqa: B008  # a Case is frozen
    """Return the recording of ``loop`` in ``case``."""
    return record(bind(loop, **declared), case)


def of(recording, kind):
    return [event for event in recording.events if isinstance(event, kind)]


def error_of(recording):
    """Return what the loop raised in any of its calls; None where it returned from all."""
    return next((call.error for call in of(recording, Call) if call.error is not None), None)


def bits(value):
    """Return a value such that two are equal where they have the same bits, the same types and the same order."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().contiguous().cpu().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return tuple((key, bits(part)) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(bits(part) for part in value)
    return value


def train(model, train_loader, loss_fn, optimizer):
    """Train one epoch; the part that the loops in this file share."""
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()


def watched_loop(seen):
    """Return a loop that trains and evaluates in each epoch, and puts all that it can see of its run into ``seen``."""

    def loop(model, train_loader, test_loader, loss_fn, optimizer, scheduler):
        losses = []
        model.train()
        for images, labels in train_loader:
            # Each generator is drawn from, so that one that stands elsewhere changes the result.
            noise = torch.rand(()).item() + np.random.rand() + random.random()  # noqa: S311  # no secret
            optimizer.zero_grad()
            loss = loss_fn(model(images * (1 + 0.01 * noise)), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        scheduler.step()
        model.eval()
        with torch.no_grad():
            losses += [loss_fn(model(images), labels) for images, labels in test_loader]
        gradients = [parameter.grad for parameter in model.parameters()]
        generators = torch.get_rng_state(), np.random.get_state(), random.getstate()
        seen.append(bits([losses, model.state_dict(), gradients, optimizer.state_dict(), generators]))

    return loop


def run_without_recording(loop, case):
    """Run the loop as the recorder does, on a world of the same case, and look at nothing."""
    with state_of_process.generators_restored():
        state_of_process.seed_everything(case.seed)
        made = world.build(case, DEFAULT)
        names = ("model", "train_loader", "test_loader", "loss_fn", "optimizer", "scheduler")
        for _ in range(case.epochs):
            loop(*(made.values[name] for name in names))


@given(case=cases)
@example(case=Case(model="probe", optimizer="Adam", dtype="float32", watch="graphs"))
@example(case=Case(model="probe", optimizer="SGD with momentum", watch="reads"))
def test_recording_changes_no_result(case):
    """Losses, parameters, buffers, gradients, optimizer and generators are bitwise those of a run that no one saw."""
    alone, watched = [], []
    run_without_recording(watched_loop(alone), case)
    recording = recorded(watched_loop(watched), case)
    assert error_of(recording) is None
    assert len(alone) == case.epochs
    assert watched == alone


# -- what is left behind -----------------------------------------------------------------------------------------------


def hooks_of(owner):
    """Return what hangs on an object: its non-empty dictionaries of hooks, by name."""
    found = {name: getattr(owner, name) for name in dir(owner) if "_hooks" in name}
    return {name: dict(hooks) for name, hooks in found.items() if isinstance(hooks, dict) and hooks}


def everything_left(kept):
    """Return the hooks that are left on the objects of a run, and the global ones."""
    left = [*optimizer_module._global_optimizer_pre_hooks.values()]
    left += optimizer_module._global_optimizer_post_hooks.values()
    for model in kept["models"]:
        for part in model.modules():
            left += hooks_of(part).items()
        for parameter in (*model.parameters(), *model.buffers()):
            left += hooks_of(parameter).items()
    for owner in kept["others"]:
        left += hooks_of(owner).items()
    left += [(name, hooks) for name in global_state.GLOBAL_HOOKS if (hooks := getattr(global_state.module_hooks, name))]
    return left


def saved_tensors_are_hooked():
    """Return whether the recorder still packs the tensors that a graph saves."""
    before = sum(type(found).__name__ == "_Saved" for found in gc.get_objects())
    number = torch.ones(1, requires_grad=True)
    product = number * number
    packed = sum(type(found).__name__ == "_Saved" for found in gc.get_objects())
    del product
    return packed > before


class Stop(Exception):
    """What a loop of this file raises."""


class Loop:
    """A loop that keeps what it is handed, and raises where it is told to."""

    where = ""
    error = Stop
    kept: dict[str, Any]  # of the latest run

    def __init__(self, model, loss_fn, optimizer, train_loader, val_loader, scheduler):
        self.handed = model, loss_fn, optimizer, train_loader, val_loader
        Loop.kept = {"models": [model], "others": [loss_fn, optimizer, scheduler], "reached": []}
        self.stop("constructor")

    def stop(self, here):
        Loop.kept["reached"].append(here)
        if here == Loop.where:
            raise Loop.error

    def train_epoch(self):
        model, loss_fn, optimizer, loader, _ = self.handed
        model.train()
        for images, labels in loader:
            self.stop("training")
            optimizer.zero_grad()

            def closure(images=images, labels=labels):
                loss = loss_fn(model(images), labels)
                loss.backward()
                self.stop("step")
                return loss

            optimizer.step(closure)

    @torch.no_grad()
    def evaluate(self):
        model, loss_fn, _, _, loader = self.handed
        model.eval()
        for images, labels in loader:
            loss_fn(model(images), labels)
            self.stop("evaluation")


@pytest.fixture
def stops():
    """Tells `Loop` where to raise what; it raises nothing afterwards."""

    def stop(where, error=Stop):
        Loop.where, Loop.error = where, error

    yield stop
    Loop.where, Loop.error, Loop.kept = "", Stop, {}


@pytest.fixture
def two_threads():
    """Torch has two threads in the test: one is what the recorder itself sets."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


PLACES = ["", "constructor", "training", "step", "evaluation"]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("watch", ["", "graphs", "reads"])
@pytest.mark.parametrize("where", PLACES)
def test_nothing_is_left_behind(stops, where, watch):
    """No hook, mode, flag or thread count, and generators where they were, wherever the loop raises."""
    stops(where)
    before = global_state.snapshot()
    recording = recorded(Loop, Case(model="probe", watch=watch))
    assert global_state.restore(before) == []
    assert (where in Loop.kept["reached"]) is bool(where)
    assert (error_of(recording) or "").startswith("Stop" if where else "")
    assert everything_left(Loop.kept) == []
    assert not saved_tensors_are_hooked()
    assert _get_current_dispatch_mode() is None
    assert recording.left == ()
    assert recording.threads == ()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", PLACES[1:])
def test_nothing_is_left_behind_by_what_ends_a_program(stops, where, error):
    """Ctrl-C and exit() come through, and all is as it was."""
    stops(where, error)
    before = global_state.snapshot()
    with pytest.raises(error):
        recorded(Loop, Case(watch="graphs"))
    assert global_state.restore(before) == []
    assert everything_left(Loop.kept) == []
    assert not saved_tensors_are_hooked()


@pytest.mark.usefixtures("two_threads")
def test_nothing_is_left_behind_by_a_model_that_cannot_be_made():
    """What the factory of a declared model raises comes through, and all is as it was."""

    def factory():
        raise Stop

    before = global_state.snapshot()
    with pytest.raises(Stop):
        recorded(train, Case(model="declared"), model=factory)
    assert global_state.restore(before) == []


def test_the_recorder_outlives_no_recording():
    """What it hung on the model holds neither the recorder nor its world once the recording is made."""
    Loop.where = ""
    names = {"_Recorder", "_Graphs", "_CountReads", "_Saved"}
    others = [found for found in gc.get_objects() if type(found).__name__ in names]  # of recordings that others keep
    recorded(Loop, Case(watch="graphs"))
    kept, Loop.kept = Loop.kept, {}
    gc.collect()
    found = [found for found in gc.get_objects() if type(found).__name__ in names]
    assert {id(one) for one in found} <= {id(one) for one in others}
    del kept


# -- what is recorded --------------------------------------------------------------------------------------------------


def snapshot(model):
    return {name: value.detach().clone() for name, value in (*model.named_parameters(), *model.named_buffers())}


def parameters(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def gradients(model):
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def counting_loop(log):
    """Return a whole training that notes by hand, in ``log``, what a recording has to say of it."""

    def forward(model, images):
        log.append(("forward", images.clone(), model.training, torch.is_grad_enabled(), snapshot(model)))
        return model(images)

    def train_and_validate(model, train_loader, val_loader, loss_fn, optimizer, epochs):
        for epoch in range(epochs):
            model.train()
            log.append(("pass", "train"))
            for images, labels in train_loader:
                outputs = forward(model, images)
                optimizer.zero_grad()
                loss = loss_fn(outputs, labels)
                log.append(("loss", outputs.detach().clone(), labels.clone(), loss.detach().clone()))
                loss.backward()
                for group in optimizer.param_groups:
                    group["lr"] = 0.1 / (1 + epoch)
                before, arrived = parameters(model), gradients(model)
                optimizer.step()
                log.append(("step", 0.1 / (1 + epoch), arrived, before, parameters(model)))
            model.eval()
            log.append(("pass", "val"))
            with torch.no_grad():
                for images, labels in val_loader:
                    outputs = forward(model, images)
                    log.append(("loss", outputs, labels, loss_fn(outputs, labels)))
        return {"loss": loss.item(), "model": model, "epochs": [epochs]}

    return train_and_validate


def told(event, eval_names):
    """Return what a recording says in the words of `counting_loop`; None for what that does not note."""
    if isinstance(event, Forward):
        assert set(event.eval_modules) in (set(), eval_names)
        return "forward", event.inputs, not event.eval_modules, event.grad, event.state
    if isinstance(event, LossCall):
        return "loss", event.outputs, event.targets, event.value
    if isinstance(event, OptimizerStep):
        assert len(set(event.lr.values())) == 1
        return "step", next(iter(event.lr.values())), event.gradients, event.before, event.after
    return ("pass", event.split) if isinstance(event, Pass) else None


@settings(max_examples=10)
@given(case=cases)
@example(case=Case(model="frozen"))
@example(case=Case(model="tied", optimizer="Adam"))
def test_a_recording_tells_what_a_count_by_hand_tells(case):
    """Passes, forwards with mode, gradients and state, losses and steps: each once, in order, bit for bit."""
    log = []
    recording = recorded(counting_loop(log), case)
    assert error_of(recording) is None
    names = {name or "the model" for name, _ in world.make_model(case, DEFAULT).named_modules()}
    found = [entry for event in recording.events if (entry := told(event, names)) is not None]
    assert [entry[0] for entry in found] == [entry[0] for entry in log]
    for entry, noted in zip(found, log, strict=True):
        assert bits(entry) == bits(noted)
    assert [event.time for event in recording.events] == list(range(len(recording.events)))


def test_gradients_arrive_once_a_backward_pass_and_parameter():
    """An arrival for each trained parameter and backward pass, between its loss and its step; none for frozen ones."""
    recording = recorded(counting_loop([]), Case(model="frozen", epochs=1, samples=8))
    trainable = {"hidden.2.weight", "hidden.2.bias", "head.weight", "head.bias"}
    assert recording.trainable == trainable
    assert set(recording.parameters) == trainable | {"hidden.0.weight", "hidden.0.bias"}
    kinds = [event for event in recording.events if isinstance(event, (LossCall, Arrival, OptimizerStep))]
    batch = kinds[: 2 + len(trainable)]
    assert isinstance(batch[0], LossCall)
    assert {event.parameter for event in batch[1:-1]} == trainable
    assert isinstance(batch[-1], OptimizerStep)
    assert len(of(recording, Arrival)) == 2 * len(trainable)


def test_the_gradient_of_the_outputs_is_that_of_the_loss():
    """What backward brings to the outputs is recorded once a backward pass, and nothing in evaluation."""
    recording = recorded(counting_loop([]), Case(model="probe"))
    for forward in of(recording, Forward):
        if not forward.grad:
            assert forward.output_gradients == []
            assert not forward.differentiable
            continue
        assert forward.differentiable
        loss = next(event for event in of(recording, LossCall) if event.time > forward.time)
        outputs = loss.outputs.clone().requires_grad_()
        nn.CrossEntropyLoss()(outputs, loss.targets).backward()
        assert len(forward.output_gradients) == 1
        assert torch.equal(forward.output_gradients[0], outputs.grad)


def test_each_sample_that_is_drawn_is_recorded():
    """Draws are those of the passes: each index of the data set once, in the order of the batches."""
    case = Case(samples=10, held_out=5)
    recording = recorded(counting_loop([]), case)
    images = {split: world.make_data(case, DEFAULT, split)[0] for split in ("train", "val")}
    waiting = []
    for event in recording.events:
        if isinstance(event, Draw):
            waiting.append(event)
        if isinstance(event, Forward):
            assert torch.equal(torch.stack([images[draw.split][draw.index] for draw in waiting]), event.inputs)
            waiting = []
    draws = [(draw.split, draw.index) for draw in of(recording, Draw)]
    epoch = [("train", index) for index in range(10)] + [("val", index) for index in range(5)]
    assert sorted(draws[:15]) == sorted(draws[15:]) == epoch
    assert draws[:15] != epoch


def test_what_the_loop_returns_is_recorded():
    """Numbers by where they stand, and the state of a model."""
    log = []
    recording = recorded(counting_loop(log), Case(model="probe"))
    (call,) = of(recording, Call)
    before_the_last_evaluation = [number for number, entry in enumerate(log) if entry[0] == "step"][-1] - 1
    last = log[before_the_last_evaluation][3]
    assert call.result.kind == "dict"
    assert set(call.result.numbers) == {"['loss']", "['epochs'][0]"}
    assert call.result.numbers["['loss']"] == float(last)
    assert bits(call.result.state) == bits(recording.end) == bits(call.after)


def test_the_state_around_each_call_is_recorded():
    """Each call begins where the one before ended; the first at the start, the last at the end; modes too."""
    recording = recorded(Loop, Case(model="probe"))
    calls = of(recording, Call)
    assert [(call.what, call.epoch) for call in calls] == [
        ("train", 1),
        ("evaluate", 1),
        ("train", 2),
        ("evaluate", 2),
        ("evaluate", 0),
        ("evaluate", 0),
    ]
    assert bits(calls[0].before) == bits(recording.start)
    assert bits(calls[-1].after) == bits(recording.end)
    for call, following in pairwise(calls):
        assert bits(call.after) == bits(following.before)
        assert bits(call.gradients_after) == bits(following.gradients_before)
        assert call.modes_after == following.modes_before
        assert call.end == following.time
    assert calls[0].gradients_before == {}
    assert calls[0].modes_after == ()
    assert "the model" in calls[1].modes_after
    assert "hidden.1" in calls[1].modes_after


def test_the_generators_are_those_before_the_forward():
    """The state of the generator that is recorded gives the dropout mask of that very forward."""
    recording = recorded(train, Case(model="dropout"))
    for forward in of(recording, Forward):
        model = world.make_model(recording.case, DEFAULT)
        model.load_state_dict(forward.state)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(forward.rng)
            assert torch.equal(model(forward.inputs), forward.outputs)


def test_reads_of_values_are_recorded():
    """One for each .item(), float() and bool() of the loop, and none for what the optimizer reads."""

    def reads(model, train_loader, loss_fn, optimizer):
        train(model, train_loader, loss_fn, optimizer)
        number = next(model.parameters()).detach().sum()
        number.item()
        float(number)
        bool(number > 0)

    # Beginning a pass reads as well: the DataLoader draws its seed.
    plain, more = (recorded(loop, Case(watch="reads", optimizer="Adam", epochs=1)) for loop in (train, reads))
    assert error_of(more) is None
    assert len(of(more, Read)) == len(of(plain, Read)) + 3
    assert of(recorded(reads, Case(epochs=1)), Read) == []


def test_graphs_that_are_alive_are_recorded():
    """A loop that adds losses up without detaching them holds the graphs of all its forwards; another holds none."""

    def holds(model, train_loader, loss_fn, optimizer):
        total = 0.0
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(images), labels)
            loss.backward()
            optimizer.step()
            total = total + loss

    held = [forward.alive for forward in of(recorded(holds, Case(epochs=1, watch="graphs")), Forward)]
    assert held == [(), (0,), (0, 1)]
    freed = [forward.alive for forward in of(recorded(train, Case(epochs=1, watch="graphs")), Forward)]
    assert all(len(alive) <= 1 for alive in freed)  # the loss of the batch before is a variable still


def test_tensors_that_a_graph_still_holds_are_recorded():
    """After a backward pass with retain_graph the saved tensors live on, after one without they do not."""

    def retains(model, train_loader, loss_fn, optimizer):
        kept = []
        for images, labels in train_loader:
            optimizer.zero_grad()
            kept.append(loss_fn(model(images), labels))
            kept[-1].backward(retain_graph=True)
            optimizer.step()

    kept = [forward.kept for forward in of(recorded(retains, Case(epochs=1, watch="graphs")), Forward)]
    assert kept[0] == 0
    assert 0 < kept[1] < kept[2]
    assert [f.kept for f in of(recorded(train, Case(epochs=1, watch="graphs")), Forward)] == [0, 0, 0]


# -- loops that do with what they are handed what one may do -----------------------------------------------------------


def trains_a_copy_too(model, train_loader, loss_fn, optimizer):
    twin = copy.deepcopy(model)
    train(model, train_loader, loss_fn, optimizer)
    train(twin, train_loader, loss_fn, torch.optim.SGD(twin.parameters(), lr=0.1))


def saves_the_model(model, train_loader, loss_fn, optimizer):
    train(model, train_loader, loss_fn, optimizer)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    train(torch.load(file, weights_only=False), train_loader, loss_fn, torch.optim.SGD(model.parameters(), lr=0.1))


def saves_a_copy(model, train_loader, loss_fn, optimizer):
    train(model, train_loader, loss_fn, optimizer)
    torch.save(copy.deepcopy(model), io.BytesIO())


def saves_states(model, train_loader, loss_fn, optimizer):
    train(model, train_loader, loss_fn, optimizer)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])


def pickles_the_rest(model, train_loader, loss_fn, optimizer):
    train(model, train_loader, pickle.loads(pickle.dumps(loss_fn)), optimizer)  # noqa: S301  # our own bytes
    pickle.dumps(optimizer)
    copy.deepcopy((model, loss_fn, optimizer, train_loader))


def calls_functionally(model, train_loader, loss_fn, optimizer):
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        outputs = torch.func.functional_call(model, dict(model.named_parameters()), (images,))
        loss_fn(outputs, labels).backward()
        optimizer.step()


def rebuilds_the_loader(model, train_loader, loss_fn, optimizer):
    loader = DataLoader(train_loader.dataset, batch_size=4, shuffle=True, num_workers=1)
    train(model, loader, loss_fn, optimizer)


@pytest.mark.parametrize("watch", ["", "graphs", "reads"])
@pytest.mark.parametrize(
    "loop", [trains_a_copy_too, saves_the_model, saves_a_copy, saves_states, pickles_the_rest, calls_functionally]
)
def test_what_is_handed_in_can_be_copied_saved_and_called_otherwise(loop, watch):
    """Copies, pickles, checkpoints and functional calls work as they do without the recorder, and count once."""
    recording = recorded(loop, Case(model="probe", epochs=1, watch=watch))
    assert error_of(recording) is None
    assert len(of(recording, Forward)) == 3
    assert len(of(recording, Arrival)) == 3 * len(recording.trainable)


def test_a_copy_of_the_model_is_not_the_model():
    """Calls of a copy are counted apart, and the steps of its optimizer hold none of the model's parameters."""
    recording = recorded(trains_a_copy_too, Case(epochs=1))
    assert recording.copied == 3
    assert [len(step.lr) for step in of(recording, OptimizerStep)] == [4, 4, 4, 0, 0, 0]
    assert [step.strangers for step in of(recording, OptimizerStep)] == [0, 0, 0, 4, 4, 4]
    assert [step.optimizer for step in of(recording, OptimizerStep)] == [0, 0, 0, 1, 1, 1]


def test_a_copy_carries_no_recorder():
    """What is left on a copy that outlives the recording is inert: it can be called, trained and saved."""
    kept = []

    def keeps_a_copy(model, train_loader, loss_fn, optimizer):
        train(model, train_loader, loss_fn, optimizer)
        kept.append(copy.deepcopy(model))

    recording = recorded(keeps_a_copy, Case(epochs=1))
    events = len(recording.events)
    images = torch.zeros(2, 1, 28, 28, dtype=torch.float64)
    kept[0](images).sum().backward()
    assert len(recording.events) == events
    assert recording.copied == 0


def test_a_loader_of_the_loops_own_with_workers():
    """A loop may build a loader with worker processes from the data that it is handed: the batches are seen."""
    recording = recorded(rebuilds_the_loader, Case(epochs=1))
    assert error_of(recording) is None
    assert sorted(len(forward.inputs) for forward in of(recording, Forward)) == [2, 4, 4]
    assert recording.threads == ()


@pytest.mark.filterwarnings("ignore")  # newer versions of torch say that torch.jit is deprecated
def test_a_traced_model():
    """A model that the loop traces with torch.jit is seen as far as it is called through the one that was handed in."""

    def traces(model, train_loader, loss_fn, optimizer):
        model.train()
        images, _ = next(iter(train_loader))
        traced = torch.jit.trace(model, images)
        train(traced, train_loader, loss_fn, optimizer)

    recording = recorded(traces, Case(epochs=1))
    assert error_of(recording) is None
    assert len(of(recording, OptimizerStep)) == 3


@pytest.mark.filterwarnings("ignore")  # what the compiler warns of is not ours
def test_a_compiled_model():
    """That a model was compiled is told, as its forwards are not; the steps are, and the result is the same."""

    def compiled(model, train_loader, loss_fn, optimizer):
        train(torch.compile(model, backend="eager"), train_loader, loss_fn, optimizer)

    plain, recording = recorded(train, Case(epochs=1)), recorded(compiled, Case(epochs=1))
    assert error_of(recording) is None
    assert recording.compiled
    assert not plain.compiled
    assert len(of(recording, OptimizerStep)) == 3
    assert bits(recording.end) == bits(plain.end)


@pytest.mark.parametrize("watch", ["", "graphs", "reads"])
def test_recordings_can_be_nested(watch):
    """A loop that records another one: each recording tells what it tells alone; the outer one, no more than steps."""
    inner = []

    def outer_loop(model, train_loader, loss_fn, optimizer):
        inner.append(recorded(train, Case(seed=7, model="probe")))
        train(model, train_loader, loss_fn, optimizer)

    alone = recorded(train, Case(watch=watch)), recorded(train, Case(seed=7, model="probe"))
    outer = recorded(outer_loop, Case(watch=watch))
    assert error_of(outer) is None
    assert bits(outer.end) == bits(alone[0].end)
    assert all(bits(found.end) == bits(alone[1].end) for found in inner)
    for found in inner:
        assert [type(event) for event in found.events] == [type(event) for event in alone[1].events]
    own = [step for step in of(outer, OptimizerStep) if step.lr]
    assert len(own) == len(of(alone[0], OptimizerStep))
    assert len(of(outer, Forward)) == len(of(alone[0], Forward))
    assert len(of(outer, Arrival)) == len(of(alone[0], Arrival))


def test_what_the_loop_leaves_is_told_and_put_back():
    """Flags, hooks and threads of the loop are named, and all but the threads are gone afterwards."""
    end = threading.Event()

    def leaves(model, train_loader, loss_fn, optimizer):
        train(model, train_loader, loss_fn, optimizer)
        model.register_forward_hook(lambda *_: None)
        torch.set_grad_enabled(False)
        threading.Thread(target=end.wait, name="left by the loop", daemon=True).start()

    before = global_state.snapshot()
    try:
        recording = recorded(leaves, Case(epochs=1))
        assert recording.left == ("gradients enabled", "hooks on the model")
        assert recording.threads == ("left by the loop",)
        assert global_state.restore(before) == []
    finally:
        end.set()


def test_what_the_loop_raised_is_told_with_its_line():
    """The error is told with the author's file and line, not with those of this package or of the libraries."""

    def raises(model, train_loader, loss_fn, optimizer):
        for images, labels in train_loader:
            loss_fn(model(images), labels + 100).backward()

    recording = recorded(raises, Case(epochs=2))
    (call,) = of(recording, Call)
    assert call.error_type == "IndexError"
    assert "out of bounds" in call.error_message
    line = raises.__code__.co_firstlineno + 2
    assert call.error.endswith(f" at test_recorder.py:{line}: loss_fn(model(images), labels + 100).backward()")


def saves(model, optimizer, path):
    states = [np.random.get_state(), random.getstate(), torch.get_rng_state()]
    torch.save([model.state_dict(), optimizer.state_dict(), states], path)


def loads(model, optimizer, path):
    state, optimizer_state, (numpy_state, python_state, torch_state) = torch.load(path, weights_only=False)
    model.load_state_dict(state)
    optimizer.load_state_dict(optimizer_state)
    np.random.set_state(numpy_state)
    random.setstate(python_state)
    torch.set_rng_state(torch_state)


@pytest.mark.parametrize("optimizer", ["Adam", "SGD with momentum"])
def test_a_training_that_is_saved_and_goes_on(optimizer):
    """With all that there is in the checkpoint it ends bitwise where it ends uninterrupted; each forward is seen."""
    case = Case(model="probe", optimizer=optimizer)
    whole = recorded(train, case, save=saves, load=loads)
    resumed = recorded(train, case.but(resume=True), save=saves, load=loads)
    assert error_of(resumed) is None
    assert bits(resumed.end) == bits(whole.end)
    assert len(of(resumed, Forward)) == len(of(whole, Forward)) == 2 * math.ceil(case.samples / case.batch_size)
    assert len(of(resumed, Arrival)) == len(of(whole, Arrival))


def test_a_training_that_goes_on_with_nothing_loaded_ends_elsewhere():
    """The model that it goes on with is another one: what is not loaded shows."""
    case = Case(model="probe")
    resumed = recorded(train, case.but(resume=True), save=saves, load=lambda model, path: None)
    assert error_of(resumed) is None
    assert bits(resumed.end) != bits(recorded(train, case).end)
