"""The reference, held to the laws that any loop is held to: its epoch, its fit, and the lesson with its own loaders."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.finding import Judgement
from mnist_loop.verification.binding.bind import bind
from mnist_loop.verification.binding.contract import Contract, Description
from mnist_loop.verification.cases.battery import Experiment, battery, experiments
from mnist_loop.verification.laws.judge import LAWS, judge
from mnist_loop.verification.recording.recorder import record
from mnist_loop.verification.recording.trace import Trace

PARTS = ("train_one_epoch", "fit", "lesson")
SHARE = 0.4  # of the profile's examples: each is a whole training, held to every law

# Why no case can decide a law: it is of what the reference does not do.
NOT_RUN = (
    "declare accumulate=N",
    "declare clip=C",
    "declare frozen=",
    "declare keeps_best=True",
    "declare average=d",
    "declare patience=N",
    "declare objective=FUNCTION",
    "declare schedule='per-batch'",
    "handed no scheduler",
    "handed no GradScaler",
    "builds no schedule with an end",
    "steps no ReduceLROnPlateau",
)
# What a part does not do, and on what device it cannot be decided.
NOT_RUN_IN = {
    "train_one_epoch": (
        *("handed no test data", "handed no data to evaluate", "not handed the number of epochs"),
        "a call may be a training of its own",
    ),
    "fit": ("declare save= and load=", "evaluates as it trains may stop early"),
    "lesson": ("declare save= and load=", "evaluates as it trains may stop early"),
    "cuda": ("need not be deterministic",),
}


def contract_of(part: str, loop: ModuleType, loading: ModuleType, checkpoints: ModuleType) -> Contract:
    """Bind a part of the reference as any loop is bound; an epoch is saved and resumed by its checkpoints."""

    def save(model, optimizer, path):
        checkpoints.Checkpoint.capture(model, optimizer, [], {}).save(Path(path))

    def load(model, optimizer, path):
        checkpoints.Checkpoint.load(Path(path)).restore(model, optimizer)

    def lesson(model, train_set, test_set, batch_size, epochs, loss_fn, optimizer, device, seed):
        data = SimpleNamespace(train=train_set, test=test_set)
        generator = torch.Generator().manual_seed(seed)
        loaders = loading.make_loaders(data, batch_size, generator=generator, device=device)
        return loop.fit(model, *loaders, loss_fn, optimizer, device, epochs)

    def evaluate_lesson(model, test_set, batch_size, loss_fn, device):
        data = SimpleNamespace(train=test_set, test=test_set)
        _, test_loader = loading.make_loaders(data, batch_size, device=device)
        return loop.evaluate(model, test_loader, loss_fn, device)

    if part == "train_one_epoch":
        return bind(loop.train_one_epoch, loop.evaluate, save=save, load=load)
    if part == "fit":
        return bind(loop.fit, loop.evaluate)
    return bind(lesson, evaluate_lesson, shuffles_itself=True)


def experiments_for(contract: Contract) -> Iterator[Experiment]:
    """Yield the fixed battery, the plainest case first, and then cases that Hypothesis draws."""
    description = Description(
        contract.name,
        file=None,
        lines=None,
        roles=contract.roles,
        evaluate_roles=contract.evaluate_roles,
        whole_fit=contract.whole_fit,
        declared=contract.intentions,
        saves=contract.saving is not None,
    )
    yield from battery(description)
    drawn: list[Experiment] = []

    @settings(
        max_examples=int(SHARE * settings().max_examples),
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(experiments(description))
    def draw(experiment: Experiment) -> None:
        drawn.append(experiment)

    draw()
    yield from drawn


class Trial:
    """A part of the reference, tried in one case after the other: each runs once, when it is first asked for."""

    def __init__(self, contract: Contract, device: str) -> None:
        self.contract, self.device = contract, device
        self.to_come = experiments_for(contract)
        self.judgements: list[Judgement] = []

    def __iter__(self) -> Iterator[Judgement]:
        for number in itertools.count():
            if number == len(self.judgements):
                experiment = next(self.to_come, None)
                if experiment is None:
                    return
                self.judgements.append(self.run(experiment))
            yield self.judgements[number]

    def run(self, experiment: Experiment) -> Judgement:
        """Record every run of an experiment, and hold them to the laws that it is for, unless it raises as it may."""
        recording = record(self.contract, experiment.case.but(device=self.device))
        others = {
            run: record(self.contract, case.but(device=self.device)) for run, case in experiment.variants().items()
        }
        trace = Trace(recording, self.contract.intentions, others)
        if experiment.optional and trace.failed is not None:
            return Judgement(experiment.case)
        return judge(trace, [LAWS[law] for law in experiment.laws or LAWS])


@functools.cache
def trial_of(part: str, loop: ModuleType, loading: ModuleType, checkpoints: ModuleType, device: str) -> Trial:
    """Return the trial of a part, the same for every law."""
    return Trial(contract_of(part, loop, loading, checkpoints), device)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("part", PARTS)
def test_the_law_holds(loop, loading, checkpoints, device, part, law):
    """In no case is there evidence against a law; and a case at least decides it, or none can, for a reason known."""
    trial = trial_of(part, loop, loading, checkpoints, str(device))
    found = (finding for judgement in trial for finding in judgement.findings if finding.id == law)
    broken = next(found, None)
    if broken is not None:
        cause = f", a consequence of {broken.consequence_of}" if broken.consequence_of else ""
        raise AssertionError(f"{broken.text}\n{law}{cause}, in {part} with {broken.case!r}\n{BUGS[law].law}")
    decided = any(law in judgement.held for judgement in trial)
    reasons = {judgement.not_run[law] for judgement in trial if law in judgement.not_run}
    known = (*NOT_RUN, *NOT_RUN_IN[part], *NOT_RUN_IN.get(str(device), ()))
    assert decided or any(why in reason for reason in reasons for why in known), ", ".join(sorted(reasons))
