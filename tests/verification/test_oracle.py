"""The oracle: by hand, by autograd and by torch's own losses and optimizers it says the same."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from mnist_loop.verification.binding.bind import bind
from mnist_loop.verification.binding.intentions import DEFAULT, checked
from mnist_loop.verification.cases import world
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.recording import by_hand
from mnist_loop.verification.recording.events import Forward, LossCall, OptimizerStep
from mnist_loop.verification.recording.oracle import Oracle, Replicas, mean_loss, output_gradient
from mnist_loop.verification.recording.recorder import record
from mnist_loop.verification.recording.trace import Trace

# Float64: five times 784 terms are rounded, each by 2**-53 of its size, which is below a hundred.
EXACT = 1e-10

seeds = st.integers(0, 2**32)
sizes = st.integers(1, 5)


def numbers(seed, *shape, scale=1.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def train(model, train_loader, loss_fn, optimizer):
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()


def recorded(case, loop=train, **declared):
    return record(bind(loop, **declared), case)


def of(recording, kind):
    return [event for event in recording.events if isinstance(event, kind)]


def assert_same(found, expected):
    """Each tensor differs from the other by rounding at most, and none is missing."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == torch.float64
        assert float((found[name] - value.double()).norm()) <= EXACT * (1 + float(value.double().norm())), name


@settings(max_examples=20)
@given(seed=seeds, count=sizes, log_probs=st.booleans(), scale=st.sampled_from([1e-3, 1.0, 30.0]))
def test_the_chain_rule_by_hand_is_that_of_autograd(seed, count, log_probs, scale):
    """For any weights, images and gradients of the outputs, whether or not a log-softmax follows."""
    case = Case(loss="nll" if log_probs else "cross-entropy", seed=seed % 1000)
    model = world.make_model(case, DEFAULT)
    images, upstream = numbers(seed, count, 1, 28, 28, scale=scale), numbers(seed + 1, count, 10)
    model(images).backward(upstream)
    found = by_hand.gradients(model.state_dict(), images, upstream, log_probs)
    assert_same(found, {name: parameter.grad for name, parameter in model.named_parameters()})


@settings(max_examples=20)
@given(seed=seeds, count=sizes, loss=st.sampled_from(sorted(world.LOSSES)), scale=st.sampled_from([1e-3, 1.0, 300.0]))
def test_the_right_gradient_is_that_of_torchs_loss(seed, count, loss, scale):
    """Mean loss of a batch and its gradient with respect to the outputs, as torch's own loss has them in float64."""
    outputs = numbers(seed, count, 1 if loss == "mse" else 10, scale=scale)
    if loss == "nll":
        outputs = outputs.log_softmax(dim=1)
    targets = numbers(seed + 1, count, 1) if loss == "mse" else (numbers(seed + 1, count).abs() * 1e6).long() % 10
    leaf = outputs.clone().requires_grad_()
    known = {"cross-entropy": F.cross_entropy, "nll": F.nll_loss, "mse": F.mse_loss}
    if loss == "bce":
        value = F.binary_cross_entropy_with_logits(leaf, F.one_hot(targets, 10).double())
    else:
        value = known[loss](leaf, targets)
    value.backward()
    assert_same({"": output_gradient(loss, outputs, targets)}, {"": leaf.grad})
    assert mean_loss(loss, outputs, targets) == pytest.approx(value.item(), rel=1e-12, abs=1e-300)


def test_the_right_gradient_of_float32_outputs_is_computed_in_float64():
    """The outputs are made float64 first, so that the oracle adds no rounding of its own."""
    outputs, targets = numbers(0, 4, 10).float(), torch.tensor([1, 2, 3, 4])
    assert_same(
        {"": output_gradient("cross-entropy", outputs, targets)},
        {"": output_gradient("cross-entropy", outputs.double(), targets)},
    )


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_of_outputs_that_are_not_finite_the_gradient_is_not(value):
    """No warning, no error: not a number comes out."""
    outputs = numbers(0, 2, 10)
    outputs[0, 3] = value
    gradient = output_gradient("cross-entropy", outputs, torch.tensor([1, 2]))
    assert not torch.isfinite(gradient[0]).all()
    assert torch.isfinite(gradient[1]).all()


@settings(max_examples=20)
@given(
    seed=seeds,
    optimizer=st.sampled_from(sorted(world.OPTIMIZERS)),
    rates=st.lists(st.sampled_from([0.0, 0.1, 0.05, 1e-3]), min_size=1, max_size=6),
    bare=st.lists(st.sampled_from(["head.bias", "hidden.0.weight", ""]), min_size=6, max_size=6),
)
def test_replicas_step_as_the_optimizer_does(seed, optimizer, rates, bare):
    """One optimizer a parameter goes through the states of one for all: rates change, and gradients may be missing."""

    def steps_on_random_gradients(model, train_loader, optimizer):
        for number, (lr, without) in enumerate(zip(rates, bare, strict=False)):
            for place, (name, parameter) in enumerate(model.named_parameters()):
                parameter.grad = None if name == without else numbers(seed + 7 * number + place, *parameter.shape)
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()

    recording = recorded(Case(optimizer=optimizer, epochs=1), steps_on_random_gradients)
    replicas, steps = Replicas(optimizer), of(recording, OptimizerStep)
    assert [set(step.lr.values()) for step in steps] == [{lr} for lr in rates]
    for step in steps:
        assert_same(replicas.step(step), step.after)


def test_replicas_leave_alone_what_no_optimizer_holds():
    """A parameter with a gradient that is in no group has no rate, and stays."""

    def steps_with_one_left_out(model, train_loader, optimizer):
        del optimizer.param_groups[0]["params"][0]
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()

    recording = recorded(Case(optimizer="Adam", epochs=1), steps_with_one_left_out)
    (step,) = of(recording, OptimizerStep)
    assert set(step.lr) == {"hidden.0.bias", "head.weight", "head.bias"}
    assert set(step.gradients) == set(step.before)
    assert_same(Replicas("Adam").step(step), step.after)
    assert torch.equal(step.after["hidden.0.weight"], step.before["hidden.0.weight"])


@pytest.mark.parametrize("optimizer", sorted(world.OPTIMIZERS))
def test_the_updates_of_a_recorded_training_are_replayed(optimizer):
    """Step for step, the oracle's parameters are those that the recorded training has in float64."""
    recording = recorded(Case(model="probe", optimizer=optimizer, epochs=3))
    replicas = Replicas(optimizer)
    steps = of(recording, OptimizerStep)
    assert len(steps) == 9
    for step in steps:
        assert_same(replicas.step(step), step.after)


@pytest.mark.parametrize("loss", sorted({*world.LOSSES} - {"bce"}))  # the loop makes no one-hot labels
@pytest.mark.parametrize("model", sorted(world.MODELS))
def test_the_gradients_of_a_recorded_training_are_replayed(model, loss):
    """From state, inputs and generator of a forward: the outputs, dropout masks too, and each parameter's gradient."""
    recording = recorded(Case(model=model, loss=loss, epochs=1))
    oracle = Trace(recording).oracle  # the reading finds out which samples each forward held
    forwards, losses, steps = (of(recording, kind) for kind in (Forward, LossCall, OptimizerStep))
    assert len(forwards) == len(losses) == len(steps) == 3
    for forward, called, step in zip(forwards, losses, steps, strict=True):
        replayed = oracle.outputs(forward, forward.eval_modules)
        assert_same({"": replayed.detach()}, {"": forward.outputs})
        arrived = oracle.gradients(forward, forward.output_gradients[0], forward.eval_modules)
        assert_same(arrived, step.gradients)
        assert torch.equal(oracle.labels("train")[list(forward.samples)], called.targets)
        assert_same(oracle.gradients(forward, None, forward.eval_modules), step.gradients)


@pytest.mark.parametrize("loss", ["cross-entropy", "nll"])
def test_both_oracles_agree(loss):
    """Of the plain network the gradient by hand is that by autograd on the fresh copy, for the same forward."""
    recording = recorded(Case(loss=loss, epochs=1))
    oracle = Oracle(recording)
    for forward in of(recording, Forward):
        upstream = numbers(5, *forward.outputs.shape)
        by_chain_rule = oracle.gradients(forward, upstream, ())
        oracle.outputs(forward, ()).backward(upstream)
        assert_same(by_chain_rule, {name: p.grad for name, p in oracle.model().named_parameters()})


def test_dropout_masks_are_those_of_the_recorded_forward():
    """The replay zeroes what the forward zeroed: with another state of the generator it would zero other units."""
    recording = recorded(Case(model="dropout", epochs=1))
    oracle = Oracle(recording)
    first, second, _ = of(recording, Forward)
    assert_same({"": oracle.outputs(first, ()).detach()}, {"": first.outputs})
    first.rng = second.rng
    assert not torch.allclose(oracle.outputs(first, ()), first.outputs)


def test_a_replay_is_in_the_modes_that_it_is_told():
    """Modules named are in eval mode, the others in train mode, whatever the replay before left them in."""
    recording = recorded(Case(model="probe", epochs=1))
    oracle, forward = Oracle(recording), of(recording, Forward)[0]
    names = [name or "the model" for name, _ in oracle.model().named_modules()]
    model = world.make_model(recording.case, DEFAULT)
    model.load_state_dict(forward.state)
    expected = model.eval()(forward.inputs)
    assert_same({"": oracle.outputs(forward, names).detach()}, {"": expected.detach()})
    assert_same({"": oracle.outputs(forward, ()).detach()}, {"": forward.outputs})
    only_batch_norm = oracle.outputs(forward, ["hidden.1"])
    assert not torch.allclose(only_batch_norm, expected)
    assert not torch.allclose(only_batch_norm, forward.outputs)


def test_a_replay_moves_the_buffers_as_the_forward_did():
    """Running statistics after the replay are those that the next forward begins with."""
    recording = recorded(Case(model="probe", epochs=1))
    oracle = Oracle(recording)
    first, second, _ = of(recording, Forward)
    oracle.outputs(first, ())
    for name, buffer in oracle.model().named_buffers():
        assert torch.allclose(buffer.double(), second.state[name].double(), rtol=EXACT, atol=0), name


def test_a_replay_draws_no_random_number():
    """The global generator is where it was, although dropout drew from it."""
    recording = recorded(Case(model="dropout", epochs=1))
    before = torch.get_rng_state()
    Oracle(recording).outputs(of(recording, Forward)[0], ())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_replay_of_float32_is_in_float64():
    """State and inputs are what the training had, the arithmetic is not."""
    recording = recorded(Case(model="tied", dtype="float32", epochs=1))
    oracle, forward = Oracle(recording), of(recording, Forward)[0]
    outputs = oracle.outputs(forward, ())
    assert outputs.dtype == torch.float64
    assert torch.allclose(outputs.float(), forward.outputs, rtol=1e-4, atol=1e-5)
    assert not torch.equal(outputs, forward.outputs.double())


@pytest.mark.parametrize(
    ("declared", "right"),
    [
        ({}, set()),
        ({"frozen": ["hidden"]}, {"hidden", "hidden.0", "hidden.1"}),
        ({"frozen": ["hidden.1"]}, {"hidden.1"}),
        ({"frozen": ["hid"]}, set()),
        ({"trains_in_eval_mode": True}, {"the model", "hidden", "hidden.0", "hidden.1", "head"}),
    ],
)
def test_modules_that_may_be_in_eval_mode(declared, right):
    """Those that are declared frozen, with all within them; where eval mode is declared, all that are."""
    recording = recorded(Case(epochs=1))
    forward = of(recording, Forward)[0]
    forward.eval_modules = ("the model", "hidden", "hidden.0", "hidden.1", "head")
    assert Oracle(recording, checked(declared)).right_eval_modules(forward) == right


def test_a_declared_model_is_made_by_its_factory():
    """The replay works on the loop's own model; the weights are those of the case's seed."""
    declared = checked({"model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))})
    recording = recorded(Case(model="declared", epochs=1), model=declared.model)
    assert recording.declared.model is None
    oracle = Oracle(recording, declared)
    forward = of(recording, Forward)[0]
    assert_same({"": oracle.outputs(forward, ()).detach()}, {"": forward.outputs})


def test_numbers_that_are_not_finite_warn_of_nothing():
    """By hand, too: what cannot be judged is no reason to write to stderr."""
    case = Case()
    state = {name: value.double() * 1e200 for name, value in world.make_model(case, DEFAULT).named_parameters()}
    images = numbers(0, 4, 1, 28, 28, scale=1e200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_hand.gradients(state, images, numbers(1, 4, 10, scale=1e300), log_probs=True)
        by_hand.cross_entropy_gradient(numbers(2, 4, 10) * float("inf"), torch.zeros(4, dtype=torch.long))
