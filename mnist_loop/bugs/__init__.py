"""The catalogue of bugs: what ``mnist-loop verify --list``, ``--explain`` and docs/bugs.md are made from. No torch."""

from __future__ import annotations

from difflib import get_close_matches

from mnist_loop.bugs import data, gradients, loops, losses, metrics, modes, resources, schedules
from mnist_loop.bugs.bug import SUBJECTS, Bug
from mnist_loop.errors import UserError

__all__ = ["BUGS", "SUBJECTS", "Bug", "get"]

MODULES = (gradients, losses, modes, data, metrics, schedules, resources, loops)  # in the order of `SUBJECTS`

BUGS: dict[str, Bug] = {bug.id: bug for module in MODULES for bug in module.BUGS}


def get(id: str) -> Bug:  # noqa: A002  # what everyone calls it, the command line too
    """Return the bug of this id.

    Raises:
        UserError: there is none; the sentence names the id that was most likely meant.
    """
    if id in BUGS:
        return BUGS[id]
    close = get_close_matches(id.lower(), BUGS, n=1)
    meant = f"did you mean {close[0]}?" if close else "mnist-loop verify --list shows them all"
    raise UserError(f"{id!r} found, expected the id of a bug, such as zero-grad-missing: {meant}")
