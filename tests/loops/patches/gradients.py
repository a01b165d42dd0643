"""Bugs of gradient and step."""

from tests.loops.patches import Mutant

ZERO_GRAD = "        optimizer.zero_grad()\n"
STEP = "        optimizer.step()\n"
BACKWARD = "        loss.backward()\n"
TRAIN = "    model.train()\n"
SKIPPING_STEP = "        if batch == 0 or len(labels) == size:\n            size = len(labels)\n    " + STEP
CLIPPED_STEP = "        nn.utils.clip_grad_norm_(model.parameters(), 0.01)\n" + STEP
REPLAY = "test_gradient_zeroing.test_sgd_ends_in_the_parameters_of_the_replay"

MUTANTS = [
    Mutant(
        "zero-grad-missing",
        ZERO_GRAD,
        "",
        "law:zero-grad-missing",
        r"step 1: .*grad = grad\(batch 1\) \+ what step 0 applied",
    ),
    Mutant(
        "zero-grad-per-epoch",
        ZERO_GRAD,
        "",
        "law:zero-grad-per-epoch",
        r"what step 0 applied.*; the first step of epoch 2 is right",
        and_also=((TRAIN, TRAIN + ZERO_GRAD[4:]),),
    ),
    Mutant(
        "zero-grad-after-backward",
        BACKWARD,
        BACKWARD + ZERO_GRAD,
        "law:zero-grad-after-backward",
        r"step 0: gradients of norm .* arrived, and none were left",
    ),
    Mutant(
        "zero-grad-after-step-alone",
        ZERO_GRAD,
        "",
        "test_gradient_zeroing.test_gradients_left_by_the_caller_are_not_applied",
        r"step 0: fc\d\.\w+\.grad differs",
        and_also=((STEP, STEP + ZERO_GRAD),),
    ),
    Mutant("step-missing", STEP, "", "law:step-missing", r"\d+ backward passes, no step"),
    Mutant(
        "step-double", STEP, STEP + STEP, "law:step-double", r"step 0: the optimizer stepped 2 times on one gradient"
    ),
    Mutant("step-double", STEP, STEP + STEP, REPLAY, r"after training, fc\d\.\w+ differs"),
    Mutant(
        "step-skips-the-partial-batch",
        STEP,
        SKIPPING_STEP,
        REPLAY,
        r"after training, fc\d\.\w+ differs",
    ),
    Mutant(
        "graph-detached",
        "        outputs = model(images)\n        loss =",
        "        outputs = model(images)\n        outputs = outputs.detach().requires_grad_()\n        loss =",
        "law:graph-detached",
        r"\d+ forwards in training, and no parameter got a gradient",
    ),
    Mutant(
        "softmax-before-cross-entropy",
        "        loss = loss_fn(outputs, labels)\n",
        "        loss = loss_fn(outputs.softmax(dim=1), labels)\n",
        "law:softmax-before-cross-entropy",
        r"step 0: the gradient at the outputs is that of cross_entropy\(softmax\(outputs\)\)",
    ),
    Mutant(
        "clips-unasked",
        STEP,
        CLIPPED_STEP,
        REPLAY,
        r"after training, fc\d\.\w+ differs",
    ),
    Mutant(
        "step-skips-the-partial-batch",
        STEP,
        SKIPPING_STEP,
        "law:gradient-differs",
        r"step 2: the gradient differs, most in",
    ),
    Mutant(
        "clips-unasked",
        STEP,
        CLIPPED_STEP,
        "law:gradient-differs",
        r"step 0: the gradient is .* times what it should be",
    ),
]
