"""Each broken loop is named by its bug, and each law is needed for that."""

from __future__ import annotations

import re

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.diagnosis import Diagnosis, diagnose
from mnist_loop.verdict.finding import ENDED, SEVERITIES
from mnist_loop.verification.binding.bind import bind
from mnist_loop.verification.binding.contract import Description
from mnist_loop.verification.cases.battery import experiments
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.laws.judge import LAWS
from mnist_loop.verification.options import Options
from tests import matrix, verdicts
from tests.loops.mutants import MUTANTS, Mutant

DRAWN = 5  # cases a mutant; 50 by night
SEED = 0
FIRST = matrix.first_codings()

SHOWN_AGAIN = (
    "zero-grad-missing",
    "softmax-before-cross-entropy",
    "accumulation-tail",
    "train-mode-not-restored",
    "best-is-last",
    "stops-after-first-batch",
    "mean-of-batch-means",
    "clip-after-step",
    "graph-leak",
    "loop-exits",
)

# Mutants whose bug has an effect in a drawn case that is not enough there to tell it from its neighbours, and why.
TOLD_APART_BY_THE_BATTERY: dict[str, str] = {}


def parameter(mutant: Mutant):
    """One coding of each bug by default; the others are slow, all together."""
    return pytest.param(mutant, id=mutant.name, marks=() if FIRST[mutant.bug] is mutant else pytest.mark.slow)


def told(diagnoses: list[Diagnosis]) -> str:
    """What was found, for the message of a failed test."""
    lines = [f"{found.id}: {found.finding.text} in {found.finding.case!r}" for found in diagnoses]
    return "\n".join(lines) or "nothing was found"


# -- the name ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", [parameter(mutant) for mutant in MUTANTS])
def test_a_mutant_is_named_by_its_bug(mutant):
    """As soon as a bug shows, the primary one is the one that the loop has, with evidence, in a case that was tried."""
    assert_named(mutant, verdicts.on_mutant(mutant.name))


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [pytest.param(mutant, id=mutant.name) for mutant in MUTANTS])
def test_a_mutant_is_named_by_its_bug_in_the_whole_battery(mutant):
    """However many cases are tried."""
    assert_named(mutant, verdicts.in_battery(mutant.name))


def assert_named(mutant, found):
    assert found.primary == mutant.bug, told(found.diagnoses)
    first = found.diagnoses[0]
    assert first.finding.text.strip()
    assert first.finding.case in [judgement.case for judgement in found.judgements]
    assert mutant.bug not in {consequence.id for consequence in first.consequences}


@pytest.mark.parametrize("bug", SHOWN_AGAIN)
def test_the_case_of_a_finding_reproduces_it(bug):
    """In the case that is shown with a finding, alone, the same bug is found."""
    mutant = FIRST[bug]
    case = verdicts.on_mutant(mutant.name).diagnoses[0].finding.case
    again = verdicts.quietly(mutant, Options(cases=(case,)))
    assert [judgement.case for judgement in again.judgements] == [case]
    assert again.primary == bug, told(again.diagnoses)


def drawn_cases(description: Description, dtype: str, count: int) -> tuple[Case, ...]:
    """Draw what verification draws for a loop after the battery."""
    drawn: dict[Case, None] = {}

    @hypothesis.seed(SEED)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(experiments(description, dtype))
    def draw(experiment):
        drawn.setdefault(experiment.case)

    draw()
    return tuple(drawn)


def misnamed(mutant: Mutant, count: int) -> list[tuple[Case | None, list[Diagnosis]]]:
    """Return the drawn cases in which something as bad as the mutant's bug shows and goes by another name."""
    known = verdicts.in_battery(mutant.name)
    # Each case takes the whole time limit, or all the memory.
    count = 2 if mutant.bug in ENDED else count
    case = known.judgements[0].case
    assert case is not None
    bad = SEVERITIES[: SEVERITIES.index(BUGS[mutant.bug].severity) + 1]
    tried = verdicts.quietly(mutant, Options(cases=drawn_cases(bind(mutant.loop).description, case.dtype, count)))
    found = []
    for judgement in tried.judgements:
        diagnoses = diagnose([judgement])
        if any(finding.severity in bad for finding in judgement.findings) and diagnoses[0].id != mutant.bug:
            found.append((judgement.case, diagnoses))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [pytest.param(mutant, id=mutant.name) for mutant in MUTANTS])
def test_a_mutant_is_named_in_every_drawn_case(mutant):
    """Wherever something as bad as the bug shows, the bug is its name, in one random case alone."""
    by_night = settings.default.max_examples >= settings.get_profile("thorough").max_examples
    found = misnamed(mutant, 10 * DRAWN if by_night else DRAWN)
    if mutant.name in TOLD_APART_BY_THE_BATTERY and found:
        pytest.xfail(TOLD_APART_BY_THE_BATTERY[mutant.name])
    assert not found, "\n".join(f"{case!r}:\n{told(diagnoses)}" for case, diagnoses in found)


# -- the laws ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
def test_without_the_law_a_mutant_loses_its_name(law):
    """For each law there is a mutant that it names, and that no other law names so."""
    assert law in FIRST, f"no mutant has the bug {law}"
    found = verdicts.on_mutant(FIRST[law].name)
    assert found.primary == law, told(found.diagnoses)
    left = matrix.without(law, found.judgements)
    assert not left or left[0].id != law
    # What the law explained has to be explained by another law now, or stands by itself.
    assert law not in {consequence.id for diagnosis in left for consequence in diagnosis.consequences}
    kept = {finding.id for judgement in found.judgements for finding in judgement.findings} - {law}
    assert kept == {finding.id for diagnosis in left for finding in (diagnosis.finding, *diagnosis.consequences)}, (
        "a finding of another law is lost with it"
    )


# -- the catalogue -----------------------------------------------------------------------------------------------------


def test_mutants_have_names_of_their_own():
    """No two mutants share a name, and each has a bug of the catalogue."""
    assert len(matrix.NAMES) == len(MUTANTS)
    assert set(FIRST) <= set(BUGS)


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_has_each_mutant_and_each_law():
    """docs/matrix.md has a row for each mutant, which names its bug, and a row for each law."""
    page = matrix.PAGE.read_text()
    rows = re.findall(r"^\| \[([\w-]+)\]\(bugs\.md#\1\) \| `([\w.]+)` \| ([\w*-]+) \|", page, re.MULTILINE)
    again = "run python -m tests.matrix"
    assert sorted(rows) == sorted((mutant.bug, mutant.name, mutant.bug) for mutant in MUTANTS), again
    laws = re.findall(r"^\| \[([\w-]+)\]\(bugs\.md#\1\) \| (.+) \| \d+ \| .* \|$", page, re.MULTILINE)
    assert laws == [(law.id, law.bug.law) for law in LAWS.values()], again
