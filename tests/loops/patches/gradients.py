"""Bugs of gradient and step."""

from tests.loops.patches import Mutant

ZERO_GRAD = "        optimizer.zero_grad()\n"
STEP = "        optimizer.step()\n"
BACKWARD = "        loss.backward()\n"
TRAIN = "    model.train()\n"
OWN_GRADIENT = "test_gradient_zeroing.test_each_step_applies_the_gradient_of_its_own_batch"
REPLAY = "test_gradient_zeroing.test_sgd_ends_in_the_parameters_of_the_replay"

MUTANTS = [
    Mutant("zero-grad-missing", ZERO_GRAD, "", OWN_GRADIENT, r"step 1: fc\d\.\w+\.grad differs"),
    Mutant(
        "zero-grad-per-epoch",
        ZERO_GRAD,
        "",
        OWN_GRADIENT,
        r"step 1: fc\d\.\w+\.grad differs",
        and_also=((TRAIN, TRAIN + ZERO_GRAD[4:]),),
    ),
    Mutant(
        "zero-grad-after-backward", BACKWARD, BACKWARD + ZERO_GRAD, OWN_GRADIENT, r"step 0: fc1\.weight\.grad is None"
    ),
    Mutant(
        "zero-grad-after-step-alone",
        ZERO_GRAD,
        "",
        "test_gradient_zeroing.test_gradients_left_by_the_caller_are_not_applied",
        r"step 0: fc\d\.\w+\.grad differs",
        and_also=((STEP, STEP + ZERO_GRAD),),
    ),
    Mutant("step-missing", STEP, "", OWN_GRADIENT, r"0 steps for \d+ batches"),
    Mutant("step-double", STEP, STEP + STEP, OWN_GRADIENT, r"2 steps for 1 batches"),
    Mutant("step-double", STEP, STEP + STEP, REPLAY, r"after training, fc\d\.\w+ differs"),
    Mutant(
        "step-skips-the-partial-batch",
        STEP,
        "        if batch == 0 or len(labels) == size:\n            size = len(labels)\n    " + STEP,
        REPLAY,
        r"after training, fc\d\.\w+ differs",
    ),
    Mutant(
        "graph-detached",
        "        outputs = model(images)\n        loss =",
        "        outputs = model(images)\n        outputs = outputs.detach().requires_grad_()\n        loss =",
        OWN_GRADIENT,
        r"step 0: fc1\.weight\.grad is None",
    ),
    Mutant(
        "softmax-before-cross-entropy",
        "        loss = loss_fn(outputs, labels)\n",
        "        loss = loss_fn(outputs.softmax(dim=1), labels)\n",
        OWN_GRADIENT,
        r"step 0: fc\d\.\w+\.grad differs",
    ),
    Mutant(
        "clips-unasked",
        STEP,
        "        nn.utils.clip_grad_norm_(model.parameters(), 0.01)\n" + STEP,
        REPLAY,
        r"after training, fc\d\.\w+ differs",
    ),
    Mutant(
        "step-double",
        STEP,
        STEP + STEP,
        "test_gradient_zeroing.test_any_optimizer_gets_one_step_a_batch",
        r"after training, fc\d\.\w+ differs",
    ),
]
