"""Resources and conduct: what outlives a step, what waits for the device, what is left behind."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.verification.laws.gradients import UNSEEN
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.events import Forward, Read
from mnist_loop.verification.recording.trace import Trace


@law("graph-leak", explains=("retain-graph",))
def no_graph_outlives_the_next_step(trace: Trace) -> Iterator[Evidence]:
    """The graph of a forward is gone two steps later: what is kept of a loss is its value."""
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


@law("retain-graph")
def saved_tensors_are_freed_by_backward(trace: Trace) -> Iterator[Evidence]:
    """A backward pass frees the tensors that it needed: a graph is kept for a second pass only."""
    must(trace.case.watch == "graphs", "saved tensors were not watched")
    must(trace.training, UNSEEN)
    twice = any(len(forward.output_gradients) > 1 for forward in trace.training)
    must(not twice, "a graph is used more than once")
    kept = [forward for forward in trace.forwards if forward.kept]
    if len(kept) >= 2:
        yield kept[0].time, f"{kept[0].kept} saved tensors of a finished backward pass are still held"


@law("sync-every-step")
def no_step_waits_for_the_device(trace: Trace) -> Iterator[Evidence]:
    """No tensor's value is read into Python in each step: on a GPU each read waits for all work to end."""
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


@law("leaves-global-state")
def global_state_is_put_back(trace: Trace) -> Iterator[Evidence]:
    """Global flags, hooks and functions are after the training what they were before it."""
    if trace.recording.left:
        yield len(trace.recording.events), f"changed and not put back: {', '.join(trace.recording.left)}"


@law("leaves-threads")
def no_thread_is_left_running(trace: Trace) -> Iterator[Evidence]:
    """Threads that the loop started have ended when it has."""
    if trace.recording.threads:
        yield len(trace.recording.events), f"still running: {', '.join(trace.recording.threads)}"


@law("loop-exhausts-memory", explains=("loop-raises",))
def the_loop_needs_little_memory(trace: Trace) -> Iterator[Evidence]:
    """Training on a few images does not use up the memory that the loop may have."""
    failed = trace.failed
    if failed is not None and (failed.error_type == "MemoryError" or "allocate memory" in failed.error_message):
        yield failed.end, f"{failed.what} raised {failed.error}"


@law("loop-raises")
def the_loop_runs(trace: Trace) -> Iterator[Evidence]:
    """The loop comes back without an error."""
    failed = trace.failed
    small = trace.case.samples < trace.case.batch_size
    must(not (small and failed is not None), "a data set smaller than a batch may be refused")
    if failed is not None:
        where = "evaluation" if failed.what == "evaluate" else "training"
        yield failed.end, f"{where} raised {failed.error}"
