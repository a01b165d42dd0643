"""Loops that do not learn, or not what they are told."""

from tests.loops.patches import Mutant
from tests.loops.patches.gradients import BACKWARD

LOSS = "        loss = loss_fn(outputs, labels)\n"
FILE = "test_loss_decrease.test_"

MUTANTS = [
    Mutant(
        "climbs",
        BACKWARD,
        "        (-loss).backward()\n",
        FILE + "full_batch_descent_on_a_convex_loss",
        "than the .* promised",
    ),
    Mutant(
        "input-lost",
        "        outputs = model(images)\n        loss =",
        "        outputs = model(images * 0)\n        loss =",
        FILE + "one_batch_is_memorised",
        "only fell",
    ),
    Mutant(
        "softmax-before-cross-entropy",
        LOSS,
        "        loss = loss_fn(outputs.softmax(dim=1), labels)\n",
        FILE + "one_batch_is_memorised",
        "only fell",
    ),
    Mutant(
        "loss-sum",
        LOSS,
        "        loss = loss_fn(outputs, labels) * len(labels)\n",
        FILE + "a_zero_head_starts_at_the_logarithm_of_the_classes",
        r"the loss is .*, not ln \d",
    ),
    Mutant(
        "climbs",
        BACKWARD,
        "        (-loss).backward()\n",
        FILE + "the_second_epoch_is_better_than_the_first",
        "no better than guessing",
        case={"name": "digits"},
    ),
]
