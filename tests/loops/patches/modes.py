"""Bugs of train and eval mode, no_grad and state."""

from tests.loops.patches import Mutant
from tests.loops.patches.gradients import TRAIN

EVAL = "    model.eval()\n"
RESTORE = "            module.training = training\n"
PROTECTED = "    with _eval_mode(model), _same_randomness(device):\n"
NO_TRACE = "test_train_eval.test_evaluation_leaves_no_trace"
FILE = "test_train_eval.test_"

MUTANTS = [
    Mutant(
        "train-mode-not-set",
        TRAIN,
        "",
        FILE + "a_model_that_comes_in_eval_mode_is_trained_in_train_mode",
        "forward 0: .*eval mode",
    ),
    Mutant("train-mode-not-restored", RESTORE, "            pass\n", NO_TRACE, "modes changed"),
    Mutant("train-mode-unfreezes", RESTORE, "            module.training = True\n", NO_TRACE, "modes changed"),
    Mutant(
        "evaluation-clears",
        "    total, correct, count = zero(device), zero(device), 0\n",
        "    total, correct, count = zero(device), zero(device), 0\n    model.zero_grad()\n",
        NO_TRACE,
        "gradients changed",
    ),
    Mutant("evaluation-draws", PROTECTED, "    with _eval_mode(model):\n", NO_TRACE, "random number generator changed"),
    Mutant(
        "evaluation-draws",
        PROTECTED,
        "    with _eval_mode(model):\n",
        FILE + "evaluation_does_not_change_the_training_to_come",
        "not equal|Mismatched|close",
    ),
    Mutant(
        "train-mode-not-restored-after-an-error",
        "    try:\n        yield\n    finally:\n        for module",
        "    yield\n    if modes:\n        for module",
        FILE + "a_failing_evaluation_leaves_no_trace",
        "modes changed",
    ),
    Mutant(
        "evaluates-in-train-mode", EVAL, "", FILE + "dropout_drops_in_training_alone", "changed values in evaluation"
    ),
]
