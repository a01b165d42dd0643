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
    # The laws have mutants of their own, whole loops: this one shows that a law can reject the reference.
    Mutant(
        "step-missing",
        STEP,
        "",
        "test_reference.test_the_law_holds",
        r"\d+ backward passes, no step",
        case={"part": "train_one_epoch", "law": "step-missing"},
    ),
    Mutant(
        "zero-grad-after-step-alone",
        ZERO_GRAD,
        "",
        "test_gradient_zeroing.test_gradients_left_by_the_caller_are_not_applied",
        r"step 0: fc\d\.\w+\.grad differs",
        and_also=((STEP, STEP + ZERO_GRAD),),
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
        "clips-unasked",
        STEP,
        CLIPPED_STEP,
        REPLAY,
        r"after training, fc\d\.\w+ differs",
    ),
]
