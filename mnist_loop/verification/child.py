"""What runs in the process of the loop: it binds the loop, describes it, and runs experiments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mnist_loop.verdict.finding import Judgement
from mnist_loop.verification.binding.bind import bind
from mnist_loop.verification.binding.contract import Contract
from mnist_loop.verification.binding.intentions import Intentions
from mnist_loop.verification.cases.battery import Experiment
from mnist_loop.verification.cases.world import check_declared
from mnist_loop.verification.laws.judge import LAWS, judge
from mnist_loop.verification.recording.divergence import may_overflow_in_half
from mnist_loop.verification.recording.events import Forward, OptimizerStep
from mnist_loop.verification.recording.packing import pack
from mnist_loop.verification.recording.recorder import record
from mnist_loop.verification.recording.recording import Recording
from mnist_loop.verification.recording.trace import Trace

Answer = Callable[[Experiment | None], object]


def answer_for(
    loop: object, evaluate: object, declared: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> Answer:
    """Bind the loop, and return what answers requests about it: None asks for its description.

    Raises:
        UserError: ``loop`` is not a training loop, or cannot be bound.
    """
    contract = bind(loop, evaluate, given, **declared)
    check_declared(contract.intentions)

    def answer(request: Experiment | None) -> object:
        return contract.description if request is None else observe(contract, request)

    return answer


def observe(contract: Contract, experiment: Experiment) -> bytes | Judgement:
    """Run every run of an experiment; return the recordings, packed, or the judgement.

    The parent judges, where no loop has run. Only a loop with a model or an objective of its own is judged
    here: the parent lacks it.
    """
    recordings = {"": record(contract, experiment.case)}
    for run, case in experiment.variants().items():
        recordings[run] = record(contract, case)
    if not experiment.case.watch and may_overflow_in_half(recordings[""]):
        recordings["watched"] = record(contract, experiment.case.but(watch="reads"))
    if experiment.case.model != "declared" and contract.intentions.objective is None:
        return pack(recordings)
    return judge_recordings(recordings, experiment.laws, contract.intentions)


def judge_recordings(
    recordings: Mapping[str, Recording], laws: Iterable[str], declared: Intentions | None = None
) -> Judgement:
    """Hold one case, recorded by the names of its runs, to laws."""
    others = {name: recording for name, recording in recordings.items() if name}
    judgement = judge(Trace(recordings[""], declared, others), [LAWS[name] for name in laws])
    judgement.unseen = _is_unseen(recordings[""])
    return judgement


def _is_unseen(recording: Recording) -> bool:
    """Return whether the loop trains the model in a way that is not seen: it steps, and calls no forward."""
    kinds = {type(event) for event in recording.events}
    return OptimizerStep in kinds and Forward not in kinds and not recording.compiled and not recording.copied
