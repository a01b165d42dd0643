"""Decide which laws a trace breaks."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from mnist_loop.bugs import BUGS, MODULES
from mnist_loop.errors import UserError
from mnist_loop.verdict.finding import Finding, Judgement, ranked
from mnist_loop.verification.laws.registry import REGISTERED, Law, NotRun
from mnist_loop.verification.recording.trace import Trace

__all__ = ["LAWS", "judge"]

ROUNDS = "the loop computes in half precision, as it is told to"

for _module in MODULES:  # each subject of the catalogue has a module of laws of the same name
    importlib.import_module(f"{__package__}.{_module.__name__.rpartition('.')[2]}")

LAWS: dict[str, Law] = {id_: REGISTERED[id_] for id_ in BUGS if id_ in REGISTERED}


def judge(trace: Trace, laws: Iterable[Law] | None = None) -> Judgement:
    """Decide each law on the trace, by default all of them.

    Raises:
        UserError: the declared objective is of no use.
    """
    judgement = Judgement(trace.case)
    found = []
    laws = [*LAWS.values()] if laws is None else [*laws]
    if trace.rounds:
        judgement.not_run = dict.fromkeys((law.id for law in laws), ROUNDS)
        return judgement
    for law in laws:
        try:
            evidence = law.first_evidence(trace)
        except NotRun as reason:
            judgement.not_run[law.id] = str(reason)
            continue
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001  # a loop may do to its model what no replay can follow
            judgement.not_run[law.id] = f"it cannot be decided here: {type(error).__name__}: {error}"
            continue
        if evidence is None:
            judgement.held.append(law.id)
        else:
            time, text, *level = evidence
            found.append(Finding(law.id, time, text, trace.case, level=level[0] if level else None))
    judgement.findings = ranked(found)
    return judgement
