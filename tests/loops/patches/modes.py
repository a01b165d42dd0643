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
        "trains-in-eval-mode",
        TRAIN,
        "    model.eval()\n",
        FILE + "training_runs_in_train_mode",
        "forward 0: .*eval mode",
    ),
    Mutant("train-mode-not-set", TRAIN, "", FILE + "training_runs_in_train_mode", "forward 0: .*eval mode"),
    Mutant(
        "evaluates-in-train-mode",
        EVAL,
        "",
        FILE + "evaluation_runs_in_eval_mode_without_gradients",
        "forward 0: a module is in train mode",
    ),
    Mutant(
        "evaluates-with-grad",
        "@torch.no_grad()\n",
        "",
        FILE + "evaluation_runs_in_eval_mode_without_gradients",
        "forward 0: gradients are on",
    ),
    Mutant(
        "train-mode-not-restored",
        RESTORE,
        "            pass\n",
        FILE + "training_resumes_in_train_mode_after_evaluation",
        "modes are not those",
        and_also=((TRAIN, ""),),
    ),
    Mutant("train-mode-not-restored", RESTORE, "            pass\n", NO_TRACE, "modes changed"),
    Mutant("train-mode-unfreezes", RESTORE, "            module.training = True\n", NO_TRACE, "modes changed"),
    Mutant("evaluates-in-train-mode", EVAL, "", NO_TRACE, "parameters and buffers changed"),
    Mutant(
        "evaluation-updates",
        "    total, correct, count = _zero(device), _zero(device), 0\n",
        "    total, correct, count = _zero(device), _zero(device), 0\n    model.zero_grad()\n",
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
        "evaluates-in-train-mode", EVAL, "", FILE + "batch_norm_follows_the_training_batches_alone", "another number"
    ),
    Mutant(
        "evaluates-in-train-mode", EVAL, "", FILE + "dropout_drops_in_training_alone", "changed values in evaluation"
    ),
    Mutant("metric-in-train-mode", EVAL, "", FILE + "evaluating_twice_gives_the_same", "first, .* then"),
]
