"""Decide which laws a watched training breaks."""

from __future__ import annotations

import linecache
from collections.abc import Iterable

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.finding import Finding, Judgement, ranked
from mnist_loop.verdict.location import SourceLine
from mnist_loop.watching.laws import clipping, data, gradients, losses, modes, precision, resources, schedules
from mnist_loop.watching.laws.registry import WATCHED, NothingToJudge
from mnist_loop.watching.log import WatchLog
from mnist_loop.watching.transparent import Site

SUBJECTS = (gradients, losses, modes, data, schedules, clipping, precision, resources)


def judge(log: WatchLog, laws: Iterable[str] | None = None) -> Judgement:
    """Hold a training to each law, or to those of these ids."""
    judgement = Judgement(None)
    found = []
    for id_ in [id_ for id_ in BUGS if id_ in WATCHED] if laws is None else laws:
        try:
            evidence = next(WATCHED[id_](log), None)
        except NothingToJudge as reason:
            judgement.not_run[id_] = str(reason)
            continue
        except Exception as error:  # noqa: BLE001  # a law that fails takes no other with it
            judgement.not_run[id_] = f"it cannot be decided here: {type(error).__name__}: {error}"
            continue
        if evidence is None:
            judgement.held.append(id_)
        else:
            line = None if evidence.site is None else source_line(evidence.site)
            found.append(Finding(id_, evidence.time, evidence.text, line=line, level=evidence.level))
    judgement.findings = ranked(found)
    return judgement


def source_line(site: Site) -> SourceLine:
    """Return the line of a place, with its text."""
    return SourceLine(site.file, site.line, linecache.getline(site.file, site.line).rstrip())
