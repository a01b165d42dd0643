"""Resources: memory and time that a loop takes without need."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.verification.laws.gradients import UNSEEN
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.events import Forward, Read
from mnist_loop.verification.recording.trace import Trace


@law("graph-leak")
def no_graph_outlives_the_next_step(trace: Trace) -> Iterator[Evidence]:
    must(trace.training, UNSEEN)
    must(trace.case.watch != "graphs", "to watch the saved tensors is to hold them")
    for forward in trace.forwards:
        held = [number for number in forward.alive if _is_old(trace, trace.forwards[number], forward)]
        if len(held) > 1:  # one is a variable that stays in scope: it does not grow
            yield forward.time, f"the graphs of {len(held)} forwards are still held two steps after them and more"


def _is_old(trace: Trace, born: Forward, now: Forward) -> bool:
    windows = {id(step): window.number for window in trace.windows for step in window.steps}
    passed = {windows.get(id(step)) for step in trace.steps if born.time < step.time < now.time}
    return len(passed) >= 2 and bool(born.output_gradients)


@law("retain-graph", numbers=False)
def saved_tensors_are_freed_by_backward(trace: Trace) -> Iterator[Evidence]:
    must(trace.case.watch == "graphs", "saved tensors were not watched")
    must(trace.training, UNSEEN)
    twice = any(len(forward.output_gradients) > 1 for forward in trace.training)
    must(not twice, "a graph is used more than once")
    kept = [forward for forward in trace.forwards if forward.kept]
    if len(kept) >= 2:
        yield kept[0].time, f"{kept[0].kept} saved tensors of a finished backward pass are still held"


@law("sync-every-step", numbers=False)
def no_step_waits_for_the_device(trace: Trace) -> Iterator[Evidence]:
    must(trace.case.watch == "reads", "reads were not watched")
    must(len(trace.training) > 1, UNSEEN)
    must("scaler" not in trace.roles, "a GradScaler reads whether gradients overflowed")
    reads = [event.time for event in trace.recording.events if isinstance(event, Read)]
    gaps = [(one.time, two.time) for one, two in zip(trace.training, trace.training[1:], strict=False)]
    gaps = [(a, b) for (a, b), w in zip(gaps, trace.training, strict=False) if _same_epoch(trace, a, b)]
    if gaps and all(any(a < time < b for time in reads) for a, b in gaps):
        count = sum(gaps[0][0] < time < gaps[0][1] for time in reads)
        values = "one tensor's value is" if count == 1 else f"{count} tensors' values are"
        yield reads[0], f"{values} read into Python in each step"


def _same_epoch(trace: Trace, first: int, second: int) -> bool:
    epochs = {forward.time: forward.epoch for forward in trace.training}
    return epochs[first] == epochs[second]
