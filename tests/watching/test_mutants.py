"""Styles with one bug: each is named first, with the line of its author, and each law has three."""

from __future__ import annotations

import pytest

from mnist_loop.bugs import BUGS
from mnist_loop.watching.laws.registry import WATCHED
from tests.watching import matrix
from tests.watching.mutants import MUTANTS, mutant_run

ENOUGH = 3  # styles that each law must break in


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_named_first_and_with_its_line(mutant):
    """Of the bugs, the one that it has comes first; a cost or an information stands alone."""
    found = mutant_run(mutant).verdict
    told = [f"{one.id} ({one.severity}): {one.finding.text} at {one.finding.line}" for one in found.diagnoses]
    first = found.diagnoses[0] if found.diagnoses else None
    assert first is not None, "nothing was found"
    assert first.id == mutant.bug, "\n".join(told)
    assert first.finding.line is not None, "\n".join(told)
    assert first.finding.line.line == mutant.line_number, "\n".join(told)
    assert first.finding.line.text.strip() == mutant.source.splitlines()[mutant.line_number - 1].strip()


def test_each_law_breaks_in_several_styles():
    """One style might be the only one that a law was written for."""
    styles = {id_: {mutant.style for mutant in MUTANTS if mutant.bug == id_} for id_ in WATCHED}
    assert not {id_: found for id_, found in styles.items() if len(found) < ENOUGH}
    assert {mutant.bug for mutant in MUTANTS} <= set(BUGS)


def test_the_page_is_up_to_date():
    """docs/styles.md is what the runs make: python -m tests.watching.matrix."""
    assert matrix.PAGE.read_text(encoding="utf-8") == matrix.render()
