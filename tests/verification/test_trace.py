"""A recording as the laws read it: windows, epochs, evaluations, samples; and the arithmetic on gradients."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from mnist_loop.verification.binding.bind import bind
from mnist_loop.verification.binding.intentions import DEFAULT
from mnist_loop.verification.cases import world
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.recording.arithmetic import add, clipped, distance, norm, scale, sum_of
from mnist_loop.verification.recording.recorder import record
from mnist_loop.verification.recording.trace import Trace

# Loops are tried on 10 samples in batches of 4, 4 and 2, for two epochs, unless a case says otherwise.
CASE = Case()


def read(loop, case=CASE, **declared):
    """Return the trace of one run; the loop must not raise."""
    trace = Trace(record(bind(loop, **declared), case))
    assert trace.failed is None, trace.failed.error
    return trace


def step(model, images, labels, loss_fn, optimizer):
    optimizer.zero_grad()
    loss_fn(model(images), labels).backward()
    optimizer.step()


def epoch(model, train_loader, loss_fn, optimizer):
    model.train()
    for images, labels in train_loader:
        step(model, images, labels, loss_fn, optimizer)


def fit(model, train_loader, loss_fn, optimizer, epochs):
    for _ in range(epochs):
        epoch(model, train_loader, loss_fn, optimizer)


@torch.no_grad()
def look(model, loader):
    model.eval()
    for images, _ in loader:
        model(images)
    model.train()


# -- windows -----------------------------------------------------------------------------------------------------------


def test_a_window_is_a_batch_and_its_step():
    """Of the plain loop: one forward, one step, numbered on through the epochs, each ending where the next begins."""
    trace = read(fit)
    assert [(w.number, len(w.forwards), len(w.steps), w.epoch) for w in trace.windows] == [
        (number, 1, 1, 1 + number // 3) for number in range(6)
    ]
    for window, following in pairwise(trace.windows):
        for name, value in window.after.items():
            assert torch.equal(value, following.forwards[0].state[name])
    last = trace.windows[-1]
    assert all(torch.equal(value, trace.recording.end[name]) for name, value in last.after.items())


@pytest.mark.parametrize("model", sorted(world.MODELS))
def test_of_a_right_loop_all_gradients_agree(model):
    """What the steps applied, what the backward passes brought, and what the oracle has are one."""
    trace = read(fit, Case(model=model))
    for window in trace.windows:
        assert window.is_right
        assert window.applied_what_arrived
        assert set(window.applied) == set(trace.trained)
        assert distance(window.applied, window.right) < 1e-12
        assert distance(trace.only_trained(window.implied), window.right) < 1e-12
        assert window.is_applied(window.mean)


def test_of_a_wrong_loop_the_gradients_differ():
    """A loop that scales its loss applies what arrived, and that is not right; one that clears nothing, neither."""

    def doubles(model, train_loader, loss_fn, optimizer):
        for images, labels in train_loader:
            step(model, images, labels, lambda *batch: 2 * loss_fn(*batch), optimizer)

    def clears_nothing(model, train_loader, loss_fn, optimizer):
        for images, labels in train_loader:
            loss_fn(model(images), labels).backward()
            optimizer.step()

    window = read(doubles).windows[0]
    assert (window.is_right, window.applied_what_arrived) == (False, True)
    assert distance(window.applied, scale(window.right, 2)) < 1e-12
    first, second, *_ = read(clears_nothing).windows
    assert (first.is_right, second.is_right, second.applied_what_arrived) == (True, False, False)
    assert distance(second.applied, add(second.right, first.right)) < 1e-12


@settings(max_examples=8)
@given(every=st.integers(1, 4))
def test_batches_between_two_steps_are_one_window(every):
    """With accumulation a window has the forwards since the last step; those without a step are the last window."""

    def accumulates(model, train_loader, loss_fn, optimizer):
        for number, (images, labels) in enumerate(train_loader):
            (loss_fn(model(images), labels) / every).backward()
            if (number + 1) % every == 0:
                optimizer.step()
                optimizer.zero_grad()

    trace = read(accumulates, Case(samples=20, epochs=1))
    full, rest = divmod(5, every)
    assert [(len(w.forwards), len(w.steps)) for w in trace.windows] == [(every, 1)] * full + [(rest, 0)] * bool(rest)
    for window in trace.windows[:full]:  # of equal batches, so that the mean of means is the mean
        assert distance(window.applied, window.mean) < 1e-12
        assert distance(window.mean, window.weighted([1] * every)) < 1e-12
        assert len(window.parts) == every


def test_unequal_batches_are_weighted_by_their_samples():
    """The mean gradient of a window is that of all its samples together."""

    def one_step(model, train_loader, loss_fn, optimizer):
        for images, labels in train_loader:
            (loss_fn(model(images), labels) * len(labels) / 10).backward()
        optimizer.step()
        optimizer.zero_grad()

    (window,) = read(one_step, Case(epochs=1)).windows
    assert [len(forward.samples) for forward in window.forwards] == [4, 4, 2]
    assert distance(window.applied, window.mean) < 1e-12
    assert distance(window.applied, window.weighted([1, 1, 1])) > 1e-3


def test_two_optimizers_share_a_window():
    """Each parameter's gradient is that at the step of the optimizer that holds it."""

    def two(model, train_loader, loss_fn):
        optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model.hidden, model.head)]
        for images, labels in train_loader:
            model.zero_grad()
            loss_fn(model(images), labels).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()

    trace = read(two)
    assert [len(window.steps) for window in trace.windows] == [2] * 6
    assert all(window.is_right for window in trace.windows)


def test_parameters_that_move_without_an_optimizer_end_a_window():
    """A loop that updates by hand has windows without steps."""

    def by_hand(model, train_loader, loss_fn):
        for images, labels in train_loader:
            model.zero_grad()
            loss_fn(model(images), labels).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad

    assert [(len(w.forwards), len(w.steps)) for w in read(by_hand).windows] == [(1, 0)] * 6


def test_declared_clipping_is_in_what_is_right():
    """The right gradient has the declared norm where the mean is longer, and clip_grad_norm_ applies just that."""

    def clips(model, train_loader, loss_fn, optimizer):
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss_fn(model(images), labels).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    trace = read(clips, Case(scale=30.0), clip=1.0)
    for window in trace.windows:
        assert norm(window.mean) > 1
        assert norm(window.right) == pytest.approx(1.0, abs=1e-5)
        assert window.is_right
        assert not trace.close(window.applied, window.mean)
        assert window.is_applied(window.mean)


def test_where_nothing_trains_there_is_no_window():
    """Forwards without backward on training data look as if one should follow; with no forward there is nothing."""

    def forwards(model, train_loader, loss_fn, optimizer):
        for images, _ in train_loader:
            model(images)

    def nothing(model, train_loader, loss_fn, optimizer):
        pass

    trace = read(forwards, Case(epochs=1))
    assert len(trace.training) == 3
    assert [len(window.steps) for window in trace.windows] == [0]
    assert read(nothing).windows == []
    assert read(nothing).training == []


# -- epochs ------------------------------------------------------------------------------------------------------------


def peeks(model, train_loader, loss_fn, optimizer, epochs):
    for _ in range(epochs):
        model(next(iter(train_loader))[0])  # as people do to see that the shapes fit
        epoch(model, train_loader, loss_fn, optimizer)


def peeks_within(model, train_loader, loss_fn, optimizer, epochs):
    for _ in range(epochs):
        for number, (images, labels) in enumerate(train_loader):
            step(model, images, labels, loss_fn, optimizer)
            if number == 1:
                next(iter(train_loader))


def measures_training_accuracy(model, train_loader, loss_fn, optimizer, epochs):
    for _ in range(epochs):
        look(model, train_loader)
        epoch(model, train_loader, loss_fn, optimizer)
        look(model, train_loader)


def goes_round(model, train_loader, loss_fn, optimizer, epochs):
    batches = iter(train_loader)
    for _ in range(epochs * len(train_loader)):
        try:
            images, labels = next(batches)
        except StopIteration:
            batches = iter(train_loader)
            images, labels = next(batches)
        step(model, images, labels, loss_fn, optimizer)


def has_its_own_loader(model, train_set, loss_fn, optimizer, epochs, batch_size):
    fit(model, DataLoader(train_set, batch_size, shuffle=True), loss_fn, optimizer, epochs)


def has_workers(model, train_set, loss_fn, optimizer, epochs, batch_size):
    fit(model, DataLoader(train_set, batch_size, shuffle=True, num_workers=1), loss_fn, optimizer, epochs)


def indexes_tensors(model, train_set, loss_fn, optimizer, epochs, batch_size):
    images, labels = train_set.tensors
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(batch_size):
            step(model, images[chosen], labels[chosen], loss_fn, optimizer)


@pytest.mark.parametrize(
    "loop",
    [
        epoch,
        fit,
        peeks,
        peeks_within,
        measures_training_accuracy,
        goes_round,
        has_its_own_loader,
        has_workers,
        indexes_tensors,
    ],
)
def test_epochs_are_told_apart(loop):
    """One a call, or one a pass that trains: a loader that is opened to look at it begins no epoch."""
    trace = read(loop)
    assert {number: sorted(len(f.samples) for f in found) for number, found in trace.epochs.items()} == {
        1: [2, 4, 4],
        2: [2, 4, 4],
    }
    for found in trace.epochs.values():
        assert sorted(sample for forward in found for sample in forward.samples) == list(range(10))


# -- samples -----------------------------------------------------------------------------------------------------------

VIEWS = {
    "as it is": lambda images: images,
    "flattened": lambda images: images.flatten(1),
    "reshaped": lambda images: images.reshape(len(images), 4, -1),
    "squeezed": lambda images: images.squeeze(1),
    "float32": lambda images: images.float(),
    "float64": lambda images: images.double(),
    "copied": lambda images: images.clone().contiguous(),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("view", VIEWS)
def test_samples_are_known_in_any_shape_and_precision(view, dtype):
    """Which samples a forward held is found from the pixels, however they are laid out."""

    def views(model, train_loader, loss_fn, optimizer):
        model.double()
        for images, labels in train_loader:
            entered = VIEWS[view](images)
            step(lambda batch: model(batch.double()), entered, labels, loss_fn, optimizer)

    trace = read(views, Case(dtype=dtype, loss="cross-entropy", epochs=1))
    images, labels = world.make_data(trace.case, DEFAULT, "train")
    for forward in trace.forwards:
        assert forward.split == "train"
        assert not forward.altered
        held = forward.inputs.reshape(len(forward.inputs), -1).float()
        assert torch.equal(images[list(forward.samples)].flatten(1).float(), held)
        assert torch.equal(trace.images(forward).flatten(1).float(), held)
        assert torch.equal(trace.labels(forward), labels[list(forward.samples)])


@pytest.mark.parametrize("alter", [lambda x: x / 2 - 1, lambda x: x.flip(-1), lambda x: x + torch.randn_like(x)])
def test_samples_that_are_altered_are_known_by_what_was_drawn(alter):
    """Normalised, flipped or with noise they are the samples drawn last, and it is told that they are altered."""

    def alters(model, train_loader, loss_fn, optimizer):
        for images, labels in train_loader:
            step(model, alter(images), labels, loss_fn, optimizer)

    plain, altered = read(epoch, Case(epochs=1)), read(alters, Case(epochs=1))
    assert all(forward.altered for forward in altered.forwards)
    assert [f.samples for f in altered.forwards] == [f.samples for f in plain.forwards]
    assert {forward.split for forward in altered.forwards} == {"train"}


@pytest.mark.parametrize(
    ("prepare", "known"),
    [(lambda x: (x - x.mean()) / x.std(), True), (lambda x: (x - x.mean(dim=0)) / x.std(dim=0), False)],
    ids=["scaled as a whole", "each pixel by its own"],
)
def test_samples_that_are_kept_in_memory_are_not_those_drawn_last(prepare, known):
    """Drawn once and scaled they are known by their pixels, or not at all."""

    def keeps(model, train_set, test_set, loss_fn, optimizer, batch_size, epochs):
        images, labels = (torch.stack([torch.as_tensor(sample[place]) for sample in train_set]) for place in (0, 1))
        assert len(list(test_set))  # drawn, and used later
        images = prepare(images)
        for _ in range(epochs):
            for chosen in torch.randperm(len(labels)).split(batch_size):
                step(model, images[chosen], labels[chosen], loss_fn, optimizer)

    trace = read(keeps)
    assert {forward.split for forward in trace.forwards} == ({"train"} if known else {""})
    each = {sample for forward in trace.forwards for sample in forward.samples}
    assert each == (set(range(trace.case.samples)) if known else set())


def test_inputs_that_are_no_samples_are_told_to_be_none():
    """Noise that no one drew from the data is of no split and has no samples."""

    def feeds_noise(model, train_loader, loss_fn, optimizer):
        epoch(model, train_loader, loss_fn, optimizer)
        model(torch.randn(11, 1, 28, 28, dtype=torch.float64))

    noise = read(feeds_noise, Case(epochs=1)).forwards[-1]
    assert (noise.split, noise.samples, noise.altered) == ("", (), True)


# -- evaluations -------------------------------------------------------------------------------------------------------


class Trainer:
    """Trains an epoch, and evaluates when it is called to."""

    def __init__(self, model, train_loader, test_loader, loss_fn, optimizer):
        self.parts = model, train_loader, loss_fn, optimizer
        self.test_loader = test_loader

    def train_epoch(self):
        epoch(*self.parts)

    def evaluate(self):
        look(self.parts[0], self.test_loader)


def test_evaluations_by_calls():
    """One a call: after each epoch, and two at the end that follow each other."""
    trace = read(Trainer)
    found = [(e.call.epoch, e.after_epoch, len(e.forwards), e.forwards[0].split) for e in trace.evaluations]
    assert found == [(1, 1, 2, "test"), (2, 2, 2, "test"), (0, 2, 2, "test"), (0, 2, 2, "test")]
    for evaluation in trace.evaluations:
        assert sorted(n for forward in evaluation.forwards for n in forward.samples) == list(range(trace.case.held_out))
        assert evaluation.time == evaluation.forwards[0].time


def test_evaluations_within_a_fit():
    """One a pass over held-out data: twice the same, and another split, are three; the epoch is the one before."""

    def evaluates(model, train_loader, val_loader, test_loader, loss_fn, optimizer, epochs):
        look(model, val_loader)
        for _ in range(epochs):
            epoch(model, train_loader, loss_fn, optimizer)
            look(model, train_loader)
            look(model, val_loader)
            look(model, val_loader)
            look(model, test_loader)

    trace = read(evaluates)
    splits = ["val", "val", "test"]
    assert [e.forwards[0].split for e in trace.evaluations] == ["val", *splits, *splits]
    assert [e.after_epoch for e in trace.evaluations] == [0, 1, 1, 1, 2, 2, 2]
    assert [len(e.forwards) for e in trace.evaluations] == [2] * 7
    assert {e.call for e in trace.evaluations} == {None}
    assert all(forward.epoch == e.after_epoch for e in trace.evaluations for forward in e.forwards)


def test_training_on_held_out_data_is_no_evaluation():
    """A forward that a backward pass goes through trains, whatever the data."""

    def trains_on_val(model, val_loader, loss_fn, optimizer):
        epoch(model, val_loader, loss_fn, optimizer)

    trace = read(trains_on_val)
    assert trace.evaluations == []
    assert {forward.split for forward in trace.training} == {"val"}


# -- what is to be trained ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "frozen", "trained"),
    [
        ("plain", [], {"hidden.0.weight", "hidden.0.bias", "head.weight", "head.bias"}),
        ("plain", ["hidden"], {"head.weight", "head.bias"}),
        ("plain", ["hidden.0", "head.bias"], {"head.weight"}),
        ("plain", ["he"], {"hidden.0.weight", "hidden.0.bias"}),
        ("frozen", [], {"hidden.2.weight", "hidden.2.bias", "head.weight", "head.bias"}),
        ("tied", ["head"], {"hidden.0.weight", "hidden.0.bias", "hidden.1.layer.weight", "hidden.1.layer.bias"}),
    ],
)
def test_what_is_to_be_trained(model, frozen, trained):
    """What is handed in with requires_grad, less what is declared frozen by its name or the beginning of it."""
    trace = read(epoch, Case(model=model, epochs=1), frozen=frozen)
    if model == "tied":
        trained = trained | {"hidden.1.again.bias"}
    assert trace.trained == trained
    gradients = trace.only_trained({"head.weight": torch.ones(10, 6), "elsewhere": torch.ones(1)})
    assert set(gradients) == trained
    for name, value in gradients.items():
        assert value.dtype == torch.float64
        assert value.shape == trace.recording.start[name].shape
        assert bool(value.any()) == (name == "head.weight")


# -- arithmetic --------------------------------------------------------------------------------------------------------

finite = st.floats(-1e6, 1e6, allow_subnormal=False).filter(lambda value: value == 0 or abs(value) > 1e-6)
gradients = st.lists(finite, min_size=3, max_size=3).map(
    lambda values: {"a": torch.tensor(values[:2], dtype=torch.float64), "b": torch.tensor(values[2:]).double()}
)


@given(found=gradients, expected=gradients, factor=st.floats(0.01, 100))
def test_distance_is_symmetric_and_without_unit(found, expected, factor):
    """0 for equals alone, the same both ways, at most 2, and no other when both are scaled."""
    apart = distance(found, expected)
    assert distance(found, found) == 0
    assert apart == distance(expected, found)
    assert 0 <= apart <= 2
    assert (apart == 0) == all(torch.equal(found[name], expected[name]) for name in found)
    assert distance(scale(found, factor), scale(expected, factor)) == pytest.approx(apart, rel=1e-6, abs=1e-9)


@given(gradient=gradients, error=st.floats(1e-9, 0.5))
def test_distance_is_the_relative_error(gradient, error):
    """What is too long by a share of itself is apart by that share, of the longer of the two."""
    if norm(gradient):
        assert distance(scale(gradient, 1 + error), gradient) == pytest.approx(error / (1 + error), rel=1e-5)
        assert distance(gradient, scale(gradient, 0)) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("other", [float("nan"), float("inf"), 0.0, 1.0])
def test_what_is_not_finite_is_infinitely_far(bad, other):
    """From what is finite; where nothing finite is expected, nothing can be told."""
    found, expected = {"a": torch.tensor([bad, 1.0])}, {"a": torch.tensor([other, 1.0])}
    assert distance(found, expected) == (float("inf") if math.isfinite(other) else 0.0)
    assert distance(expected, found) == 0.0


@given(gradient=gradients, longest=st.floats(1e-3, 1e3))
def test_clipped_is_clip_grad_norm(gradient, longest):
    """As torch.nn.utils.clip_grad_norm_ does it, and what is shorter is left alone."""
    parameters = [torch.nn.Parameter(torch.zeros_like(value)) for value in gradient.values()]
    for parameter, value in zip(parameters, gradient.values(), strict=True):
        parameter.grad = value.clone()
    before = copy.deepcopy(gradient)
    length = torch.nn.utils.clip_grad_norm_(parameters, longest)
    assert norm(gradient) == pytest.approx(float(length), rel=1e-12)
    for parameter, value in zip(parameters, clipped(gradient, longest).values(), strict=True):
        assert torch.allclose(parameter.grad, value, rtol=1e-12, atol=0)
    assert all(torch.equal(before[name], gradient[name]) for name in gradient)


@given(first=gradients, second=gradients)
def test_gradients_are_added_by_name(first, second):
    """Names that one of them lacks are taken from the other."""
    total = add(first, {"a": second["a"], "c": second["b"]})
    assert torch.equal(total["a"], first["a"] + second["a"])
    assert torch.equal(total["b"], first["b"])
    assert torch.equal(total["c"], second["b"])
    assert torch.equal(sum_of([first["a"], second["a"]]), first["a"] + second["a"])
    assert sum_of([first["a"].float()]).dtype == torch.float64
