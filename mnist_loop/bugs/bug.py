"""A bug as data."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent
from typing import Literal

# In the order in which the page and the list go through them.
SUBJECTS = (
    "gradients and steps",
    "loss",
    "modes and state",
    "data",
    "metrics",
    "schedules, clipping and precision",
    "resources",
    "the loop itself",
)


@dataclass(frozen=True)
class Bug:
    """One way in which a training loop goes wrong.

    Attributes:
        id: its stable name, in kebab-case.
        subject: one of `SUBJECTS`.
        severity: "bug" makes the result wrong, "cost" wastes time or memory, "info" is worth a look.
        title: what is wrong, in one line.
        hint: the fix, as one imperative sentence without a full stop.
        broken: a snippet with the bug.
        fixed: the same snippet without it.
        symptom: what the bug does to a training, and how it shows exactly.
        needs: what a loop has to offer or declare for this to be decided; empty where nothing is needed.
        undecided: why no run of the loop on one machine can decide it; empty where one can.
        reported: addresses at which people reported it.
    """

    id: str
    subject: str
    severity: Literal["bug", "cost", "info"]
    title: str
    hint: str
    broken: str
    fixed: str
    symptom: str
    needs: str = ""
    undecided: str = ""
    reported: tuple[str, ...] = ()


def code(text: str) -> str:
    """Return a snippet without the indentation and the blank lines that its place in the source gives it."""
    return dedent(text).strip()
