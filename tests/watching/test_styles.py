"""Training scripts in many styles: none is told of a bug that it does not have, and none is changed by a bit."""

from __future__ import annotations

import pytest

from tests.watching.running import names, right_findings, run, watched_run


@pytest.mark.parametrize("name", names())
def test_a_style_has_no_finding_that_is_wrong(name):
    """Nothing is found but what the comments at its head declare, and everything could be watched."""
    seen = watched_run(name)
    assert not seen.raised
    assert seen.watcher.broken == {}
    told = {
        found.id: f"{found.severity}: {found.finding.text} at {found.finding.line}" for found in seen.verdict.diagnoses
    }
    assert set(told) == right_findings(name), told
    assert not seen.verdict.bugs


@pytest.mark.parametrize("name", names())
def test_a_style_is_unchanged_by_being_watched(name):
    """The same lines, the same warnings at the same lines of code, the same tensors and random numbers, bit by bit."""
    unwatched, seen = run(name, watched=False), watched_run(name)
    assert seen.printed == unwatched.printed
    assert seen.warned == unwatched.warned
    assert seen.state == unwatched.state
    assert seen.raised == unwatched.raised == ""
