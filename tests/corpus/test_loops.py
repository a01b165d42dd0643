"""The public loops and their page."""

from __future__ import annotations

import pytest

from mnist_loop.bugs import BUGS
from tests.corpus.loops import Outcome, loops, main, page, unread

MANIFEST = """
[[repository]]
name = "someone/loops"
commit = "0123456789012345678901234567890123456789"
[[repository.loop]]
path = "right.py"
function = "train"
give = {{ gpu = "cpu" }}
[[repository.loop]]
path = "wrong.py"
function = "train"
{readings}
[[repository.loop]]
path = "other.py"
function = "train"
"""
LOOP = """
def train(model, loader, optimizer, criterion{more}):
    for x, y in loader:
        {zero}
        criterion(model(x), y).backward()
        optimizer.step()
"""
READ = 'readings.zero-grad-missing = { line = "wrong.py:2", right = true, why = "It is so." }'


def test_the_manifest_lists_loops_of_many_repositories():
    """Each once, with bugs that exist."""
    listed = loops()
    assert len(listed) >= 40
    assert len({one.repository for one in listed}) >= 25
    assert len({one.name for one in listed}) == len(listed)
    assert all(set(one.readings) <= set(BUGS) for one in listed)


@pytest.mark.slow
def test_loops_are_tried_and_their_page_is_written(tmp_path):
    """A verdict, a bug that was read, and a refusal."""
    folder = tmp_path / "someone+loops"
    folder.mkdir()
    (folder / "right.py").write_text(LOOP.format(more=", gpu", zero="optimizer.zero_grad()"))
    (folder / "wrong.py").write_text(LOOP.format(more="", zero="pass"))
    (folder / "other.py").write_text("def train(x, y): pass\n")
    manifest, written = tmp_path / "loops.toml", tmp_path / "loops.md"
    manifest.write_text(MANIFEST.format(readings=READ))
    assert main([str(tmp_path), "--manifest", str(manifest), "--page", str(written)]) == 0
    told = written.read_text()
    assert (
        "Of 3 loops of 1 repositories, 2 of 1 repositories reached a verdict**: 1 are clean, and 1 have a bug" in told
    )
    assert "| right.py:train | clean" in told
    assert "`--give gpu='cpu'`" in told
    assert "Right (wrong.py:2): It is so." in told
    assert "| other.py:train | refused: other.py:train(x, y) found: nothing is known of x and y |" in told
    assert str(tmp_path) not in told


def test_a_bug_that_nobody_has_read_is_told():
    """So is one that is false."""
    loop, *_ = loops()
    outcome = Outcome(decided=3, bugs={"step-missing": "no step"})
    assert unread([(loop, outcome)]) == [f"{loop.name}: step-missing was found and not read: no step"]
    assert "not read yet" in page([(loop, outcome)])
