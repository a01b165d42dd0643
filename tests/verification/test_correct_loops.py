"""No correct loop is said to have a bug: loops in many styles, and frameworks where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
import random

import pytest
from hypothesis import settings

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.finding import ENDED
from mnist_loop.verdict.verdict import Verdict
from mnist_loop.verification.laws.judge import LAWS
from mnist_loop.verification.options import Options
from tests.loops.correct import CORRECT, Correct
from tests.verdicts import PLAIN, TIMEOUT_S, on_correct, quietly

DRAWN = 30  # random cases
BY_NIGHT = 1000  # with HYPOTHESIS_PROFILE=thorough
COMPILED = "frameworks.compiled."  # each run compiles anew


def parameter(loop: Correct, *, slow: bool):
    marks = [pytest.mark.skipif(not installed(loop), reason=f"needs {loop.needs}, which is not installed")]
    return pytest.param(loop, id=loop.name, marks=[*marks, pytest.mark.slow] if slow else marks)


def installed(loop: Correct) -> bool:
    return loop.needs is None or importlib.util.find_spec(loop.needs) is not None


def each(*, slow: bool = False):
    loops = [parameter(loop, slow=slow or loop.name.startswith(COMPILED)) for loop in CORRECT]
    return pytest.mark.parametrize("loop", loops)


def alarms(loop: Correct, verdict: Verdict) -> str:
    """Return the bugs that were found and that the loop does not have, one a line."""
    return "\n".join(
        f"{found.id}: {found.finding.text} in {found.finding.case!r}"
        for found in verdict.bugs
        if found.id not in loop.breaks
    )


@each()
def test_no_alarm_in_the_first_cases(loop):
    """A correct loop has no bug in the plainest cases, and laws were held to it there."""
    found = on_correct(loop.name)
    assert not alarms(loop, found)
    assert len(found.judgements) == PLAIN
    assert found.held


@each(slow=True)
def test_no_alarm_in_the_battery(loop):
    """A correct loop has no bug in any case of the battery, but for what its framework is known to do, and does."""
    found = quietly(loop, Options(random_cases=0, timeout=TIMEOUT_S))
    assert not alarms(loop, found)
    missing = set(loop.breaks) - {diagnosis.id for diagnosis in found.diagnoses}
    assert not missing, f"said to break {', '.join(missing)}, which it does not"


@each(slow=True)
def test_no_alarm_in_drawn_cases(loop, request):
    """A correct loop has no bug in random cases. Count and seed are printed; --hypothesis-seed takes the seed."""
    by_night = settings.default.max_examples >= settings.get_profile("thorough").max_examples
    seed = request.config.getoption("--hypothesis-seed", None)
    if seed is None or not str(seed).isdigit():
        seed = random.SystemRandom().randrange(2**32) if by_night else 0
    # What a framework is known to break, with its consequences, would end the search in the first case.
    laws = tuple(id_ for id_ in LAWS if not any(id_ == known or id_ in BUGS[known].explains for known in loop.breaks))
    count = BY_NIGHT if by_night else DRAWN
    found = quietly(loop, Options(fixed_cases=PLAIN, random_cases=count, seed=int(seed), timeout=TIMEOUT_S, laws=laws))
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f" {loop.name}: {found.random_cases} cases drawn, seed {seed}")
    assert not alarms(loop, found)
    assert found.random_cases == count
    assert found.held


def test_what_breaks_has_a_reason():
    """A finding that is expected of a framework is a bug of the catalogue, with a sentence that says why."""
    for loop in CORRECT:
        for bug, reason in loop.breaks.items():
            assert bug in LAWS
            assert bug not in ENDED
            assert len(reason.split()) > 5
            assert loop.needs is not None, f"{loop.name} is ours: it can be put right"
