"""Verdicts on the loops under tests/loops, each found once in a process of the tests."""

from __future__ import annotations

import functools
import warnings

from mnist_loop.verdict.verdict import Verdict
from mnist_loop.verification.options import Options
from mnist_loop.verification.verify import verify
from tests.loops.correct import CORRECT, Correct
from tests.loops.mutants import MUTANTS, Mutant

SHORT = 6  # experiments of the battery, its first: what most bugs show in
PLAIN = 3  # experiments that a correct loop is tried in; the whole battery is slow
HANG_S = 5.0  # until a loop that hangs on purpose has hung
TIMEOUT_S = 300.0  # in the first case of a correct loop a framework is imported


@functools.cache
def on_mutant(name: str) -> Verdict:
    """Return the verdict on a mutant in the first experiments, or in the whole battery if they show nothing."""
    found = quietly(_mutant(name), Options(fixed_cases=SHORT, random_cases=0))
    return found if found.primary else in_battery(name)


@functools.cache
def in_battery(name: str) -> Verdict:
    """Return the verdict on a mutant in the whole battery."""
    return quietly(_mutant(name), Options(random_cases=0))


@functools.cache
def on_correct(name: str) -> Verdict:
    """Return the verdict on a correct loop in the first experiments of the battery."""
    loop = next(loop for loop in CORRECT if loop.name == name)
    return quietly(loop, Options(fixed_cases=PLAIN, random_cases=0, timeout=TIMEOUT_S))


def quietly(loop: Mutant | Correct, options: Options) -> Verdict:
    """Verify a loop. What it warns of is its own affair, and one that hangs on purpose is not waited for long."""
    if isinstance(loop, Mutant) and loop.bug == "loop-hangs":
        options = Options(**{**vars(options), "timeout": HANG_S})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return verify(loop.loop, options=options)


def _mutant(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)
