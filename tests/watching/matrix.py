"""What watching finds in each style and each mutant: ``python -m tests.watching.matrix`` writes docs/styles.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.diagnosis import Diagnosis
from mnist_loop.watching.laws.registry import WATCHED
from tests.watching.mutants import MUTANTS, Mutant, mutant_run
from tests.watching.running import names, source_of, watched_run

PAGE = Path(__file__).parents[2] / "docs" / "styles.md"

INTRODUCTION = """\
# Styles and mutants of a watched training

`mnist-loop check` is tried on training scripts in many styles, in [`tests/watching/styles/`](../tests/watching/styles).
Each of them is right: no bug may be found in it. Each is run twice, unwatched and watched, and must print the same
lines and warnings, and leave the same tensors and states of the random number generators, bit by bit.

A mutant is a style with one bug, from [`tests/watching/mutants.py`](../tests/watching/mutants.py). The bug that it has
must be named first, with the line that is shown here.

*This page is generated: `python -m tests.watching.matrix`.*
"""


def render() -> str:
    """Return the page as Markdown. What was not run yet is run."""
    return "\n".join([INTRODUCTION, *_styles(), *_laws(), *_mutants(), ""])


def _styles() -> Iterator[str]:
    yield "## Styles\n"
    yield "- **steps**: optimizer steps that were watched."
    yield "- **told**: findings that are right, all of them of severity cost or info.\n"
    yield "| style | what it does | steps | told |\n|---|---|---:|---|"
    for name in names():
        seen = watched_run(name)
        assert seen.watcher is not None
        assert seen.verdict is not None
        told = ", ".join(f"{found.id} ({found.severity})" for found in seen.verdict.diagnoses)
        yield f"| `{name}` | {_says(name)} | {seen.watcher.log.steps} | {told} |"
    yield ""


def _says(name: str) -> str:
    """The first sentence of a style's docstring."""
    found = re.match(r'"""(.*)"""', source_of(name))
    return found[1] if found else "A notebook."


def _laws() -> Iterator[str]:
    yield "## Laws\n"
    yield "| law | severity | styles that break it |\n|---|---|---|"
    for id_ in [id_ for id_ in BUGS if id_ in WATCHED]:
        own = [mutant for mutant in MUTANTS if mutant.bug == id_]
        levels = {found.severity for mutant in own for found in _diagnoses(mutant) if found.id == id_}
        styles = ", ".join(mutant.style.removesuffix(".py") for mutant in own)
        yield f"| [{id_}](bugs.md#{id_}) | {', '.join(sorted(levels))} | {styles} |"
    yield ""


def _mutants() -> Iterator[str]:
    yield "## Mutants\n"
    yield "| bug | style | named | beside it | line |\n|---|---|---|---|---|"
    for mutant in sorted(MUTANTS, key=lambda mutant: list(BUGS).index(mutant.bug)):
        found = _diagnoses(mutant)
        first = found[0]
        others = [*(other.id for other in first.consequences), *(f"{one.id} ({one.severity})" for one in found[1:])]
        text = "" if first.finding.line is None else first.finding.line.text.strip().replace("|", "\\|")
        yield f"| {mutant.bug} | `{mutant.style}` | {first.id} | {', '.join(others)} | `{text}` |"


def _diagnoses(mutant: Mutant) -> list[Diagnosis]:
    verdict = mutant_run(mutant).verdict
    assert verdict is not None
    return verdict.diagnoses


if __name__ == "__main__":
    PAGE.write_text(render())
