"""Loops that are right, in many styles: no law may find a bug in any of them, but for what a framework `breaks`.

Each is a module-level function, class or object that trains, marked with `correct`, which declares its intentions and
puts it into `CORRECT`. To add one, write it into the module of its subject.
"""

from __future__ import annotations

from tests.loops.correct import (
    accumulation,
    data,
    frameworks,
    losses,
    modes,
    objects,
    official,
    plain,
    precision,
    schedules,
    selection,
    several,
    steps,
)
from tests.loops.correct.registry import CORRECT, Correct, correct

__all__ = [
    "CORRECT",
    "Correct",
    "accumulation",
    "correct",
    "data",
    "frameworks",
    "losses",
    "modes",
    "objects",
    "official",
    "plain",
    "precision",
    "schedules",
    "selection",
    "several",
    "steps",
]
