"""Holds a trace to the laws."""

from __future__ import annotations

from collections.abc import Iterable

from mnist_loop.verdict.finding import Finding, Judgement, ranked
from mnist_loop.verification.laws import (
    accumulation,
    data,
    gradients,
    losses,
    metrics,
    modes,
    resources,
    schedules,
    state,
)
from mnist_loop.verification.laws.registry import LAWS, Law, NotRun
from mnist_loop.verification.recording.trace import Trace

__all__ = ["LAWS", "SUBJECTS", "judge"]

SUBJECTS = (gradients, losses, accumulation, modes, state, data, metrics, schedules, resources)


def judge(trace: Trace, laws: Iterable[Law] | None = None) -> Judgement:
    """Hold the trace to the laws, by default all."""
    judgement = Judgement(trace.case)
    found = []
    for law in LAWS.values() if laws is None else laws:
        try:
            evidence = law.first_evidence(trace)
        except NotRun as reason:
            judgement.not_run[law.id] = str(reason)
            continue
        except Exception as error:  # noqa: BLE001  # a loop may do to its model what no replay can follow
            judgement.not_run[law.id] = f"it cannot be decided here: {type(error).__name__}: {error}"
            continue
        if evidence is None:
            judgement.held.append(law.id)
        else:
            found.append(Finding(law.id, *evidence, trace.case, law.explains))
    judgement.findings = ranked(found)
    return judgement
