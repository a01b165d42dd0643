"""Train and eval mode: each forward in the mode that it belongs to, and evaluation leaves no trace."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from tests import oracle
from tests.cases import probe_cases


def record_forwards(model):
    """Return a list that gets, for each forward of ``model``, the modes in it and whether gradients are on."""
    forwards = []

    def before_forward(module, args):
        forwards.append(({part.training for part in module.modules()}, torch.is_grad_enabled()))

    model.register_forward_pre_hook(before_forward)
    return forwards


def state_of(model):
    """Copy all that evaluation must not change: parameters, buffers, gradients, modes, generators."""
    return {
        "parameters and buffers": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "random number generator": torch.get_rng_state(),
    }


def assert_same_state(found, expected):
    for part, value in expected.items():
        torch.testing.assert_close(found[part], value, rtol=0, atol=0, msg=f"{part} changed")


def train(loop, case, model, device, epochs=1):
    optimizer = case.make_optimizer(model)
    return [loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, device) for _ in range(epochs)]


@given(case=probe_cases)
def test_training_runs_in_train_mode(loop, device, case):
    """Each training forward has every submodule in train mode and gradients on, whatever mode the model came in."""
    model = case.probe(device).eval()
    forwards = record_forwards(model)
    train(loop, case, model, device, case.epochs)
    assert len(forwards) == case.steps * case.epochs
    for number, (modes, gradients) in enumerate(forwards):
        assert modes == {True}, f"training forward {number}: a module is in eval mode"
        assert gradients, f"training forward {number}: gradients are off"


@given(case=probe_cases)
def test_evaluation_runs_in_eval_mode_without_gradients(loop, device, case):
    """Each evaluation forward has every submodule in eval mode and gradients off."""
    model = case.probe(device).train()
    forwards = record_forwards(model)
    loop.evaluate(model, case.loader(), nn.CrossEntropyLoss(), device)
    assert len(forwards) == case.steps
    for number, (modes, gradients) in enumerate(forwards):
        assert modes == {False}, f"evaluation forward {number}: a module is in train mode"
        assert not gradients, f"evaluation forward {number}: gradients are on"


@given(case=probe_cases)
def test_training_resumes_in_train_mode_after_evaluation(loop, device, case):
    """In `fit`, each epoch trains in train mode and is followed by one evaluation in eval mode."""
    model = case.probe(device)
    forwards = record_forwards(model)
    optimizer = case.make_optimizer(model)
    loop.fit(model, case.loader(), case.loader(), nn.CrossEntropyLoss(), optimizer, device, case.epochs)
    modes = [mode for mode, _ in forwards]
    assert modes == ([{True}] * case.steps + [{False}] * case.steps) * case.epochs, (
        "the modes are not those of the epochs"
    )


@given(case=probe_cases, frozen=st.sets(st.integers(0, 5)))
def test_evaluation_leaves_no_trace(loop, device, case, frozen):
    """Evaluation changes no parameter, buffer, gradient, generator, nor the mode of any submodule."""
    model = case.probe(device).train()
    train(loop, case, model, device)  # so that there are gradients and running statistics to change
    for number, module in enumerate(model.modules()):
        module.training = number not in frozen
    before = state_of(model)
    loop.evaluate(model, case.loader(), nn.CrossEntropyLoss(), device)
    assert_same_state(state_of(model), before)


@given(case=probe_cases)
def test_a_failing_evaluation_leaves_no_trace(loop, case):
    """The same when the evaluation ends in an error."""
    model = case.probe().train()
    before = state_of(model)

    def broken_loader():
        yield from case.loader()
        raise OSError("the disk is gone")

    try:
        loop.evaluate(model, broken_loader(), nn.CrossEntropyLoss(), "cpu")
    except OSError:
        assert_same_state(state_of(model), before)
    else:
        raise AssertionError("the loader's error did not reach the caller")


@given(case=probe_cases)
def test_evaluation_does_not_change_the_training_to_come(loop, device, case):
    """A training with an evaluation after each epoch ends bitwise where the same training ends without them."""

    def parameters(evaluating):
        model = case.probe(device)
        optimizer = case.make_optimizer(model)
        torch.manual_seed(case.seed)  # Dropout draws from it
        for _ in range(case.epochs):
            loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, device)
            if evaluating:
                loop.evaluate(model, case.loader(), nn.CrossEntropyLoss(), device)
        return model.state_dict()

    torch.testing.assert_close(parameters(evaluating=True), parameters(evaluating=False), rtol=0, atol=0)


@given(case=probe_cases)
def test_batch_norm_follows_the_training_batches_alone(loop, device, case):
    """Running statistics are the running mean over the training batches, and evaluation adds nothing to them."""
    model = case.probe(device)
    linear, norm = model.hidden[0], model.hidden[1]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # the batches' statistics then are known beforehand
    loop.fit(model, case.loader(), case.loader(), nn.CrossEntropyLoss(), optimizer, device, case.epochs)
    mean = torch.zeros_like(norm.running_mean)
    variance = torch.ones_like(norm.running_var)
    for images, _ in list(case.loader()) * case.epochs:
        values = F.linear(images.flatten(1).to(device), linear.weight, linear.bias).detach()
        mean = (1 - norm.momentum) * mean + norm.momentum * values.mean(dim=0)
        variance = (1 - norm.momentum) * variance + norm.momentum * values.var(dim=0)
    assert int(norm.num_batches_tracked) == case.steps * case.epochs, "BatchNorm saw another number of batches"
    oracle.assert_equal(norm.running_mean, mean, "the running mean of BatchNorm", oracle.TRAINING_ROUNDING)
    oracle.assert_equal(norm.running_var, variance, "the running variance of BatchNorm", oracle.TRAINING_ROUNDING)


@given(case=probe_cases)
def test_dropout_drops_in_training_alone(loop, device, case):
    """In training Dropout sets values to zero and scales the rest; in evaluation it hands them through."""
    model = case.probe(device)
    dropout = model.hidden[3]
    seen = []
    dropout.register_forward_hook(lambda module, args, output: seen.append((args[0].detach(), output.detach())))
    train(loop, case, model, device)
    for values, output in seen:
        kept = output != 0
        oracle.assert_equal(output[kept], values[kept] / (1 - dropout.p), "what Dropout kept in training")
    training, seen[:] = seen[:], []
    loop.evaluate(model, case.loader(), nn.CrossEntropyLoss(), device)
    assert len(seen) == len(training)
    for values, output in seen:
        assert torch.equal(values, output), "Dropout changed values in evaluation"


@given(case=probe_cases)
def test_evaluating_twice_gives_the_same(loop, device, case):
    """Two evaluations of one model give bitwise the same loss and accuracy, although it has Dropout and BatchNorm."""
    model = case.probe(device)
    train(loop, case, model, device)
    first = loop.evaluate(model, case.loader(), nn.CrossEntropyLoss(), device)
    torch.rand(1)
    second = loop.evaluate(model, case.loader(), nn.CrossEntropyLoss(), device)
    assert first == second, f"{first} first, {second} then"
