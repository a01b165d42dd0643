"""Conduct: whether the loop trains what it is handed, returns, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.verification.laws.data import moves_parameters
from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.trace import Trace


@law("trains-nothing", numbers=False)
def the_loop_trains(trace: Trace) -> Iterator[Evidence]:
    must(trace.failed is None, "the loop raised")
    must(trace.case.samples >= trace.case.batch_size, "the data set is smaller than a batch")
    must(not trace.recording.compiled, "the model is compiled")
    if not trace.training and not trace.steps and not moves_parameters(trace):
        yield 0, "no forward on training samples, no step, no parameter moved"


@law("model-replaced", numbers=False)
def the_model_that_is_handed_in_is_trained(trace: Trace) -> Iterator[Evidence]:
    returned = [call.result.state for call in trace.calls if call.what == "train"]
    must(not any(state is not None for state in returned), "the loop returns a model")
    must(trace.failed is None, "the loop raised")
    strangers = [step for step in trace.steps if step.strangers and not step.lr]
    if not moves_parameters(trace) and trace.recording.copied and strangers:
        yield (
            strangers[0].time,
            f"a copy of the model was called {trace.recording.copied} times and trained; the model was not",
        )


@law("loop-raises", numbers=False)
def the_loop_runs(trace: Trace) -> Iterator[Evidence]:
    failed = trace.failed
    small = trace.case.samples < trace.case.batch_size
    must(not (small and failed is not None), "a data set smaller than a batch may be refused")
    if failed is not None:
        where = "evaluation" if failed.what == "evaluate" else "training"
        yield failed.end, f"{where} raised {failed.error}"


@law("loop-exhausts-memory", numbers=False)
def the_loop_needs_little_memory(trace: Trace) -> Iterator[Evidence]:
    failed = trace.failed
    if failed is not None and (failed.error_type == "MemoryError" or "allocate memory" in failed.error_message):
        yield failed.end, f"{failed.what} raised {failed.error}"


@law("leaves-global-state", numbers=False)
def global_state_is_put_back(trace: Trace) -> Iterator[Evidence]:
    if trace.recording.left:
        yield len(trace.recording.events), f"changed and not put back: {', '.join(trace.recording.left)}"


@law("leaves-threads", numbers=False)
def no_thread_is_left_running(trace: Trace) -> Iterator[Evidence]:
    if trace.recording.threads:
        yield len(trace.recording.events), f"still running: {', '.join(trace.recording.threads)}"
