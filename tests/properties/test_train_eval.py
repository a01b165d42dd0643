"""Train and eval mode, beyond the laws: whatever mode a model comes in, and evaluation leaves no trace at all."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests import oracle
from tests.cases import probe_cases


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
def test_a_model_that_comes_in_eval_mode_is_trained_in_train_mode(loop, device, case):
    """Each training forward has every submodule in train mode, although the model came in eval mode.

    The law trains-in-eval-mode is of models that come in train mode, as new ones do.
    """
    model = case.probe(device).eval()
    forwards = []
    model.register_forward_pre_hook(lambda module, args: forwards.append({m.training for m in module.modules()}))
    train(loop, case, model, device, case.epochs)
    assert len(forwards) == case.steps * case.epochs
    for number, modes in enumerate(forwards):
        assert modes == {True}, f"training forward {number}: a module is in eval mode"


@given(case=probe_cases, frozen=st.sets(st.integers(0, 5)))
def test_evaluation_leaves_no_trace(loop, device, case, frozen):
    """Evaluation changes no generator, nor the mode of any submodule, and clears no gradient.

    The laws evaluation-updates and state-differs are of parameters, buffers and the gradients that it adds to.
    """
    model = case.probe(device).train()
    train(loop, case, model, device)  # so that there are gradients and running statistics to change
    for number, module in enumerate(model.modules()):
        module.training = number not in frozen
    before = state_of(model)
    loop.evaluate(model, case.loader(), nn.CrossEntropyLoss(), device)
    assert_same_state(state_of(model), before)


@given(case=probe_cases)
def test_a_failing_evaluation_leaves_no_trace(loop, case):
    """The same, and all that laws say of evaluation, when it ends in an error: in their cases none does."""
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
    """A training with an evaluation after each epoch ends bitwise where the same training ends without them.

    A law has no training without its evaluations to compare with.
    """

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
def test_dropout_drops_in_training_alone(loop, device, case):
    """In training Dropout sets values to zero and scales the rest; in evaluation it hands them through.

    The laws are of the modes that decide this. Here it is the values themselves.
    """
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
