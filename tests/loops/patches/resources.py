"""Bugs that cost memory or time."""

from tests.loops.patches import Mutant

CORRECT = "            correct.add_((outputs.argmax(dim=1) == labels).sum())\n"
FILE = "test_resources.test_"

MUTANTS = [
    Mutant(
        "outputs-kept",
        "            outputs = model(images)\n            total",
        "            outputs = model(images)\n            kept = [outputs, *(kept if count else ())]\n"
        "            total",
        FILE + "memory_does_not_grow_with_the_steps",
        r"\d+ tensors at step 10, \d+ at step 50",
        case={"task": "evaluate"},
    ),
    Mutant(
        "sync-every-step",
        CORRECT,
        "            correct += (outputs.argmax(dim=1) == labels).sum().item()\n",
        FILE + "no_step_reads_a_value_from_the_device",
        r"reads in \d+ steps",
    ),
]
