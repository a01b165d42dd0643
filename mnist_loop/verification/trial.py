"""Holds a training loop to the laws: cases, traces, laws, findings, and the one bug that explains them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, settings

from mnist_loop.bugs import BUGS
from mnist_loop.errors import UserError
from mnist_loop.support.device import resolve_device
from mnist_loop.verification.binding.contract import Contract, bind
from mnist_loop.verification.cases.battery import Description, Experiment, all_runs, basis, battery, experiments
from mnist_loop.verification.cases.cases import Case
from mnist_loop.verification.laws.judge import CATCH_ALL, ENDED, LAWS, SEVERITIES, Finding, Judgement, explains, judge
from mnist_loop.verification.recording.authored import is_authored
from mnist_loop.verification.recording.packing import pack, unpack
from mnist_loop.verification.recording.reading import Trace
from mnist_loop.verification.recording.recorder import record
from mnist_loop.verification.recording.trace import Recording
from mnist_loop.verification.sandbox.isolation import Ended, InProcess, Worker, can_isolate, start_method

TIMEOUT = 60.0  # seconds that one experiment may take; it takes some hundredths of one
RANDOM_CASES = 10  # after the battery, where that found nothing
MOST_ENDS = 2  # after which a loop that ends its process is not tried in further cases
KINDS = {
    "hang": "loop-hangs",
    "exit": "loop-exits",
    "crash": "loop-crashes",
    "pipe": "loop-crashes",
    "memory": "loop-exhausts-memory",
}


@dataclass(frozen=True)
class Options:
    """How to verify.

    Attributes:
        cases: these cases alone, instead of the battery and random ones.
        fixed_cases: number of experiments of the battery, its first; None for all.
        random_cases: number of random cases after a battery that found no bug.
        seed: of the random cases.
        timeout: seconds that the runs of one case may take together.
        device: where the loop trains.
        in_process: run the loop in this process, for a debugger; nothing protects from it then.
        laws: ids of the laws to hold it to; None for all.
        on_case: called after each case with the numbers of cases that are done and planned.
    """

    cases: tuple[Case, ...] | None = None
    fixed_cases: int | None = None
    random_cases: int = RANDOM_CASES
    seed: int = 0
    timeout: float = TIMEOUT
    device: str = "cpu"
    in_process: bool = False
    laws: tuple[str, ...] | None = None
    on_case: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class Diagnosis:
    """One bug of a loop.

    Attributes:
        finding: how it shows in the smallest case in which nothing else explains it.
        count: number of cases in which it shows.
        consequences: what it brings with it: one finding for each other law that is broken because of it.
    """

    finding: Finding
    count: int
    consequences: tuple[Finding, ...] = ()

    @property
    def id(self) -> str:
        """The bug's id."""
        return self.finding.id


@dataclass
class Verdict:
    """What was found out about a loop.

    Attributes:
        name: of the loop.
        description: what it takes and declares.
        judgements: one for each case, in the order in which they ran.
        random_cases: how many of the cases were random, and from which seed.
        seconds: how long it took.
        output: the last of what the loop printed.
        isolated: why the loop was not run in a process of its own; "" where it was.
    """

    name: str
    description: Description
    judgements: list[Judgement] = field(default_factory=list)
    random_cases: int = 0
    seed: int = 0
    seconds: float = 0.0
    output: str = ""
    not_isolated: str = ""
    skipped: dict[Case, str] = field(default_factory=dict)

    @property
    def diagnoses(self) -> list[Diagnosis]:
        """The loop's bugs: the primary one first."""
        return diagnose(self.judgements)

    @property
    def primary(self) -> str | None:
        """The id of the bug that explains the most; None where every law holds."""
        found = self.diagnoses
        return found[0].id if found else None

    @property
    def bugs(self) -> list[Diagnosis]:
        """The diagnoses of severity "bug"."""
        return [diagnosis for diagnosis in self.diagnoses if BUGS[diagnosis.id].severity == "bug"]

    @property
    def failed(self) -> dict[str, str]:
        """The laws that are broken, with the first evidence."""
        found: dict[str, str] = {}
        for judgement in self.judgements:
            for finding in judgement.findings:
                found.setdefault(finding.id, finding.text)
        return found

    @property
    def held(self) -> dict[str, int]:
        """The laws that hold, with the number of cases in which they were decided."""
        counts: dict[str, int] = {}
        for judgement in self.judgements:
            for id_ in judgement.held:
                counts[id_] = counts.get(id_, 0) + 1
        failed = self.failed
        return {id_: count for id_, count in counts.items() if id_ not in failed}

    @property
    def not_run(self) -> dict[str, str]:
        """The laws that no case could decide, with the reason, and the bugs that no run decides at all."""
        reasons = {bug.id: bug.undecided for bug in BUGS.values() if bug.undecided}
        decided = {*self.held, *self.failed}
        for judgement in self.judgements:
            for id_, reason in judgement.not_run.items():
                if id_ not in decided:
                    reasons.setdefault(id_, reason)
        return reasons


def verify(loop: object, evaluate: object = None, options: Options | None = None, **declared: object) -> Verdict:
    """Hold a training loop to the laws.

    Args:
        loop: a callable, a class, an object with ``fit``, or the text that says where one is: "my_train.py:train".
        evaluate: what evaluates, where it is not found beside the loop.
        options: how to verify.
        **declared: what the loop means to do: the parameters of `mnist_loop.declare`.

    Raises:
        UserError: ``loop`` is none, or cannot be bound.
    """
    options = options or Options()
    resolve_device(options.device)
    begun = time.monotonic()
    # The first optimizer of a process loads a good part of torch: here, where each child inherits it.
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.0)
    setup = partial(_answerer, loop, evaluate, dict(declared))
    reason = "asked for" if options.in_process else can_isolate(setup, options.device)
    runner = (
        InProcess(setup)
        if reason is not None
        else Worker(setup, timeout=options.timeout, start_method=start_method(options.device))
    )
    with runner, _one_thread():
        description = _describe(runner)
        if isinstance(description, Ended):
            raise UserError(f"{_name_of(loop)} {description.detail} while it was imported: expected it to return")
        verdict = Verdict(description.name, description, seed=options.seed, not_isolated=reason or "")
        trial = _Trial(runner, description, options, verdict)
        trial.run()
        verdict.output = getattr(runner, "output", "")
    verdict.seconds = time.monotonic() - begun
    return verdict


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: the tensors are tiny, and threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def diagnose(judgements: Iterable[Judgement]) -> list[Diagnosis]:
    """Gather the findings of many cases into bugs with their consequences, the primary bug first."""
    judgements = list(judgements)
    found: dict[str, list[Finding]] = {}
    for judgement in judgements:
        for finding in judgement.findings:
            found.setdefault(finding.id, []).append(finding)
    held = {(judgement.case, name) for judgement in judgements for name in judgement.held}
    owners: dict[str, str] = {}
    for name, findings in found.items():
        for cause in sorted(found.keys() - {name}, key=list(BUGS).index):
            # Where the cause was looked for and not found, the finding is none of its consequences.
            alone = sum((finding.case, cause) in held for finding in findings)
            if explains(cause, name) and 2 * alone <= len(findings) and _root(cause, owners) != name:
                owners.setdefault(name, cause)
    causes = {name: [f for f in findings if f.consequence_of is None] or findings for name, findings in found.items()}
    result = [
        Diagnosis(
            causes[name][0], len(findings), tuple(found[other][0] for other in owners if _root(other, owners) == name)
        )
        for name, findings in found.items()
        if name not in owners
    ]
    return sorted(
        result, key=lambda d: (SEVERITIES.index(BUGS[d.id].severity), d.id not in ENDED, d.id in CATCH_ALL, -d.count)
    )


def _root(name: str, owners: Mapping[str, str]) -> str:
    """Return what explains ``name`` in the end."""
    while name in owners:
        name = owners[name]
    return name


# -- the child process -------------------------------------------------------------------------------------------------


def _answerer(loop: object, evaluate: object, declared: dict[str, Any]) -> Callable[[Any], Any]:
    """Bind the loop, in the process in which it will run, and return what answers requests about it."""
    contract = bind(loop, evaluate, **declared)

    def answer(request: Experiment | None) -> object:
        return _description(contract) if request is None else observe(contract, request)

    return answer


def observe(contract: Contract, experiment: Experiment) -> bytes | Judgement:
    """Run every run of an experiment; return the recordings, or what they are judged to be.

    The judging is done where the loop did not run, if it can be: but the model that a loop declares is there alone.
    """
    recordings = {"": record(contract, experiment.case)}
    for run, case in experiment.variants().items():
        recordings[run] = record(contract, case)
    if experiment.case.model != "declared":
        return pack(recordings)
    return _judge(recordings, contract, experiment.laws)


def _judge(recordings: dict[str, Recording], contract: Contract | None, laws: Iterable[str]) -> Judgement:
    others = {name: recording for name, recording in recordings.items() if name}
    declared = None if contract is None else contract.intentions
    return judge(Trace(recordings[""], declared, others), [LAWS[name] for name in laws])


def _description(contract: Contract) -> Description:
    declared = contract.intentions
    location = contract.location
    return Description(
        name=contract.name,
        file=None if location is None else location.file,
        lines=None if location is None else (location.line, location.end),
        roles=contract.roles,
        evaluate_roles=contract.evaluate_roles,
        whole_fit=contract.whole_fit,
        declared=dataclasses.replace(declared, model=None, evaluate=None, save=None, load=None),
        own_model=declared.model is not None,
        saves=contract.saving is not None and contract.loading is not None,
        found_evaluate_by=contract.found_evaluate_by,
        evaluate_name=None if contract.evaluation is None else contract.evaluation.name,
    )


def _describe(runner: Any) -> Description | Ended:
    try:
        description = runner.ask(None)
    except Ended as ended:
        return ended
    assert isinstance(description, Description)
    return description


def _name_of(loop: object) -> str:
    return loop if isinstance(loop, str) else getattr(loop, "__qualname__", type(loop).__name__)


# -- the parent --------------------------------------------------------------------------------------------------------


class _Found(Exception):
    """A random case in which a bug showed: it ends the search, once the case cannot be made smaller."""

    def __init__(self, judgement: Judgement) -> None:
        super().__init__()
        self.judgement = judgement


@dataclass
class _Trial:
    """Tries one loop in cases, and adds to its verdict."""

    runner: Any
    description: Description
    options: Options
    verdict: Verdict
    ends: int = 0
    tried: int = 0
    dtype: str = "float64"

    def run(self) -> None:
        if self.options.cases is not None:
            for case in self.options.cases:
                self.add(Experiment(case, all_runs(self.description)))
                self.report(len(self.options.cases))
            return
        self.choose_dtype()
        plan = battery(self.description, self.dtype)[: self.options.fixed_cases]
        for experiment in plan:
            if self.ends < MOST_ENDS:
                self.add(experiment)
                self.report(len(plan) + self.options.random_cases)
        if not self.verdict.bugs and self.options.random_cases:
            self.search()

    def report(self, planned: int) -> None:
        self.tried += 1
        if self.options.on_case is not None:
            self.options.on_case(self.tried, max(planned, self.tried))

    def choose_dtype(self) -> None:
        """Use float32 where the loop cannot do float64: where the plainest case raises there, and not here."""
        exact, rounded = (basis(self.description, dtype) for dtype in ("float64", "float32"))
        first = self.judgement(Experiment(exact))
        if self.ends:
            self.verdict.judgements.append(first)
        elif _raised(first) and not _raised(self.judgement(Experiment(rounded))):
            self.dtype = "float32"
            self.verdict.skipped[exact] = "the loop raises in float64: tried in float32, whose rounding hides more"

    def add(self, experiment: Experiment) -> None:
        judgement = self.judgement(experiment)
        if experiment.optional and _raised(judgement):
            self.verdict.skipped[experiment.case] = f"the loop raises, as it may: {experiment.optional}"
            return
        self.verdict.judgements.append(judgement)
        if any(finding.id == "loop-exhausts-memory" for finding in judgement.findings):
            self.ends = MOST_ENDS  # each further case would fill the memory again

    def judgement(self, experiment: Experiment) -> Judgement:
        if self.options.device != "cpu":
            experiment = dataclasses.replace(experiment, case=experiment.case.but(device=self.options.device))
        chosen = set(self.options.laws or LAWS) & set(experiment.laws or LAWS)
        experiment = dataclasses.replace(experiment, laws=tuple(sorted(chosen)))
        try:
            answer = self.runner.ask(experiment)
        except Ended as ended:
            self.ends += 1 if ended.kind != "hang" else MOST_ENDS
            return Judgement(experiment.case, [Finding(KINDS[ended.kind], 0, _how(ended), experiment.case)])
        if isinstance(answer, Judgement):
            return answer
        answer = unpack(answer)
        return _judge(answer, None, experiment.laws)

    def search(self) -> None:
        """Try random cases; of the first in which a bug shows, keep the smallest that shows it."""
        ran: list[Judgement] = []

        @hypothesis.seed(self.options.seed)
        @settings(
            max_examples=self.options.random_cases,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @hypothesis.given(experiments(self.description, self.dtype))
        def try_one(experiment: Experiment) -> None:
            judgement = self.judgement(experiment)
            ran.append(judgement)
            self.report(self.tried)
            if any(finding.severity == "bug" for finding in judgement.findings):
                raise _Found(judgement)

        try:
            try_one()
        except _Found as found:
            self.verdict.judgements.append(found.judgement)
        self.verdict.judgements += [j for j in ran if not any(f.severity == "bug" for f in j.findings)]
        self.verdict.random_cases = len(ran)


def _how(ended: Ended) -> str:
    """Say how the process ended, and where it was then."""
    lines = [line.strip() for line in (ended.traceback or "").splitlines() if line.strip().startswith("File ")]
    own = [line for line in lines if is_authored(line.split('"')[1])]
    return f"it {ended.detail}" + (f", in {own[0]}" if own else "")


def _raised(judgement: Judgement) -> bool:
    return any(finding.id in ("loop-raises", *ENDED) for finding in judgement.findings)
