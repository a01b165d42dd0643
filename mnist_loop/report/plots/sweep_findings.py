"""The findings of stored sweeps: which part limits training, and which configuration is fastest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mnist_loop.report.plots import words
from mnist_loop.report.stored import Measurement
from mnist_loop.support import numbers

PIPELINE, STEP = "input pipeline", "step"
WHERE = {"step": "in the step", "end to end": "from end to end"}


def limit_finding(parts: Mapping[str, Sequence[Measurement]]) -> str:
    """Return which part limits training at which batch sizes, or else the rate of the first part."""
    pipeline, step = (
        {one.workload.batch_size: one for one in _known(parts.get(part, ()))} for part in (PIPELINE, STEP)
    )
    shared = sorted(pipeline.keys() & step.keys())
    if not shared:
        first, measured = next(iter(parts.items()))
        best = max(_known(measured) or measured, key=lambda one: one.median)
        return f"The {first} reaches {numbers.short(best.median)} images/s at batch {best.workload.batch_size}"
    slower = {size: _slower(pipeline[size], step[size]) for size in shared}
    if len(set(slower.values())) > 1:
        told = [
            f"the {name} at batch {words.join_words([size for size in shared if slower[size] == name])}"
            for name in (PIPELINE, STEP)
            if name in slower.values()
        ]
        return f"What limits training: {', '.join(told)}"
    where = "at every batch size" if len(shared) > 1 else f"at batch {shared[0]}"
    part = slower[shared[0]]
    if part is None:
        return f"Input pipeline and step are about equally fast {where}"
    delivers = max(pipeline[size].median for size in shared)
    takes = max(step[size].median for size in shared)
    it, other = (f"delivers {numbers.short(delivers)}", f"step could take {numbers.short(takes)}")
    if part == STEP:
        it, other = (f"takes {numbers.short(takes)}", f"input pipeline could deliver {numbers.short(delivers)}")
    return f"The {part} limits training {where}: it {it} images/s at most, the {other}"


def lead_finding(part: str, configurations: Mapping[str, Sequence[Measurement]]) -> str:
    """Return which configuration is fastest at the largest batch size that most of them share."""
    sizes = [one.workload.batch_size for measured in configurations.values() for one in measured]
    size = max(set(sizes), key=lambda size: (sizes.count(size), size))
    at = {
        label: one for label, measured in configurations.items() for one in measured if one.workload.batch_size == size
    }
    ranked = sorted(at, key=lambda label: -at[label].median)
    best, worst = ranked[0], ranked[-1]
    where = f"{WHERE.get(part, part)} at batch {size}"
    level = [label for label in ranked if at[label].high >= at[best].low]
    rate = numbers.short(at[best].median)
    if len(level) == len(ranked):
        return f"No difference can be told {where}: about {rate} images/s"
    leads = f"In these sweeps {best} led {where} with {rate} images/s"
    if len(level) > 1:
        leads = f"In these sweeps {words.join_words(level, 3)} led {where} with about {rate} images/s"
    return f"{leads}; {worst} reached {numbers.short(at[worst].median)}"


def noteworthy(configurations: Sequence[Sequence[Measurement]], most: int) -> set[int]:
    """Return which configurations get a colour: all if they are few, else the fastest, the slowest and the last."""
    if len(configurations) <= most:
        return set(range(len(configurations)))
    ranked = sorted(range(len(configurations)), key=lambda number: configurations[number][-1].median)
    return {ranked[0], ranked[len(ranked) // 2], ranked[-1], len(configurations) - 1}


def _known(measured: Sequence[Measurement]) -> list[Measurement]:
    return [one for one in measured if 0 < one.median < math.inf]


def _slower(pipeline: Measurement, step: Measurement) -> str | None:
    """Return the slower of the two parts; None where their intervals overlap."""
    if pipeline.high < step.low:
        return PIPELINE
    return STEP if step.high < pipeline.low else None
