"""Bugs that cost memory or time."""

from tests.loops.patches import Mutant

SUM = "        total.add_(loss.detach(), alpha=len(labels))\n"
FILE = "test_resources.test_"

MUTANTS = [
    Mutant(
        "graph-leak",
        SUM,
        "        total = total + loss * len(labels)\n",
        FILE + "nothing_of_a_step_outlives_the_next",
        "still alive: .*the graph",
    ),
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
        "outputs-kept",
        SUM,
        SUM + "        kept = [*kept, loss] if batch else [loss]\n",
        FILE + "nothing_of_a_step_outlives_the_next",
        "still alive: .*the loss",
    ),
    Mutant(
        "sync-every-step",
        SUM,
        "        total += loss.item() * len(labels)\n",
        FILE + "no_step_reads_a_value_from_the_device",
        r"reads in \d+ steps",
    ),
]
