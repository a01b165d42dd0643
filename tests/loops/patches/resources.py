"""Bugs that cost memory or time."""

from tests.loops.patches import Mutant

SUM = "        total.add_(loss.detach(), alpha=len(labels))\n"
CORRECT = "            correct.add_((outputs.argmax(dim=1) == labels).sum())\n"
FILE = "test_resources.test_"

MUTANTS = [
    Mutant(
        "graph-leak",
        SUM,
        "        total = total + loss * len(labels)\n",
        "law:graph-leak",
        r"the graphs of \d+ forwards are still held two steps after them",
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
        "law:graph-leak",
        r"the graphs of \d+ forwards are still held two steps after them",
    ),
    Mutant(
        "sync-every-step",
        SUM,
        "        total += loss.item() * len(labels)\n",
        "law:sync-every-step",
        "one tensor's value is read into Python in each step",
    ),
    Mutant(
        "sync-every-step",
        CORRECT,
        "            correct += (outputs.argmax(dim=1) == labels).sum().item()\n",
        FILE + "no_step_reads_a_value_from_the_device",
        r"reads in \d+ steps",
    ),
]
