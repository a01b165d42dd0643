"""The catalogue of bugs, which ``mnist-loop verify --list``, ``--explain`` and docs/bugs.md show. It needs no torch.

To add a bug, write three things, each in the module of the same subject, and change nothing else:

- its entry in ``mnist_loop/bugs/SUBJECT.py``, with the law's text, the lines that it is seen in and what it explains;
- its law in ``mnist_loop/verification/laws/SUBJECT.py``, a function under ``@law("the-id")``;
- a loop that has it in ``tests/loops/mutants/SUBJECT.py``, under ``@mutant("the-id")``.

A bug that no run can decide has a reason as ``undecided`` instead of a law and a mutant. A missing part is named by
``tests/bugs/test_catalogue.py``. docs/bugs.md, docs/matrix.md and the picture in the README are generated: a test of
each names the command. A new subject is a module in each of the three folders, and its name in ``MODULES``.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from mnist_loop.bugs import (
    accumulation,
    clipping,
    conduct,
    data,
    gradients,
    losses,
    metrics,
    modes,
    precision,
    resources,
    schedules,
    state,
)
from mnist_loop.bugs.bug import Bug, Severity, Tool
from mnist_loop.errors import UserError
from mnist_loop.support.shown import shown

__all__ = ["BUGS", "SUBJECTS", "Bug", "Severity", "Tool", "decided_by", "get"]

# In the order in which the page and the list show them.
MODULES = (
    gradients,
    accumulation,
    losses,
    modes,
    state,
    data,
    metrics,
    schedules,
    clipping,
    precision,
    resources,
    conduct,
)
SUBJECTS = tuple(module.SUBJECT for module in MODULES)

BUGS: dict[str, Bug] = {bug.id: replace(bug, subject=module.SUBJECT) for module in MODULES for bug in module.BUGS}


def decided_by(tool: Tool) -> dict[str, Bug]:
    """Return the bugs that are the business of a command, by id."""
    return {id_: bug for id_, bug in BUGS.items() if tool in bug.decided_by}


def get(id: str) -> Bug:  # noqa: A002  # what everyone calls it, the command line too
    """Return the bug of this id.

    Raises:
        UserError: there is none; the sentence names the id that was most likely meant.
    """
    if id in BUGS:
        return BUGS[id]
    close = get_close_matches(id.lower(), BUGS, n=1)
    meant = f"did you mean {close[0]}?" if close else "mnist-loop verify --list shows them all"
    raise UserError(f"{shown(id)} found, expected the id of a bug, such as zero-grad-missing: {meant}")
