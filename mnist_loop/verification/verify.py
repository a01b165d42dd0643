"""``verify``: hold a training loop to the laws.

The loop runs in a process of its own (child.py); this one chooses the cases, judges the recordings and keeps the
verdict.
"""

from __future__ import annotations

import dataclasses
import linecache
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, configuration, settings

from mnist_loop.bugs import BUGS
from mnist_loop.errors import UserError
from mnist_loop.support.authored import is_authored
from mnist_loop.support.cache import cache_folder
from mnist_loop.support.collection import frozen, uncollected
from mnist_loop.support.console import printable
from mnist_loop.support.device import resolve_device
from mnist_loop.support.leftovers import temporary_folder
from mnist_loop.verdict.finding import ENDED, Finding, Judgement, ranked
from mnist_loop.verdict.snippet import Asked
from mnist_loop.verdict.verdict import Verdict
from mnist_loop.verification.binding.contract import Description
from mnist_loop.verification.binding.given import command
from mnist_loop.verification.binding.resolve import check_command
from mnist_loop.verification.cases.battery import (
    LAST_OF_ONE,
    RAISING,
    Experiment,
    all_runs,
    basis,
    battery,
    experiments,
    longer,
)
from mnist_loop.verification.cases.case import IMAGE_SHAPE
from mnist_loop.verification.child import answer_for, judge_recordings
from mnist_loop.verification.laws.judge import LAWS
from mnist_loop.verification.laws.losses import NOT_COMPARED
from mnist_loop.verification.options import Options
from mnist_loop.verification.recording.packing import unpack
from mnist_loop.verification.sandbox.isolation import Ended, InProcess, Sandbox, can_isolate, start_method

MOST_ENDS = 2  # times that a loop may end its process before no further case is tried
ONE_SAMPLE = "more than 1 value per channel"  # BatchNorm of a batch of one, in train mode
# A loop that reads every gradient works with no model of which a part is frozen.
NO_GRADIENT = r"'NoneType' object has no attribute .*\bgrad\b"
READS_NO_GRADIENT = "the loop raises, as it may: it reads the gradient of a parameter that is not trained, and has none"
PROCESSES = "leaves-threads"
MOST_NAMED = 3
LAST = 2**31  # the time of what is found after all events
# Errors of a file or folder of the loop's own that is not there.
LACKS_A_FILE = r"raised (FileNotFoundError|RuntimeError: Parent directory .* does not exist)"
MORE_BATCHES = (5, 10, 20)  # for a loop that reports so many times in an epoch
FEW_BATCHES = "tried with {batches} batches more than usual: with few the loop divides by zero"
EVALUATION_RAISES = (
    "without its evaluation: {name} was found beside the loop, and {why}; name another with --evaluate SPEC"
)
# Errors of what the file of a loop makes as it runs, and of packages that are not installed.
LACKS_A_NAME = r"raised NameError: name '(\w+)' is not defined"
LACKS_A_PACKAGE = r"raised (NotInstalledError|ModuleNotFoundError): "
TO_HAVE_IT = "expected its files and folders to be there: make them, or hand over other places with --give"
KINDS = {kind: bug.id for bug in BUGS.values() for kind in bug.ends}


def verify(loop: object, evaluate: object = None, options: Options | None = None, **declared: object) -> Verdict:
    """Hold a training loop to the laws.

    Args:
        loop: a callable, a class, an object with ``fit``, or the text that names one: "my_train.py:train".
        evaluate: what evaluates, if it is not found beside the loop.
        options: how to verify.
        **declared: the intentions of the loop, as for `mnist_loop.declare`.

    Raises:
        UserError: ``loop`` is not a training loop, or cannot be bound.
    """
    options = options or Options()
    resolve_device(options.device)
    try:
        return _verify(loop, evaluate, options, declared)
    except _EvaluationRaises as error:
        verdict = _verify(loop, "none", options, declared)
        verdict.remarks = (*verdict.remarks, str(error))
        return verdict


class _EvaluationRaises(UserError):
    """What was taken for the evaluation of a loop raises in the plainest case: it is none."""


def _verify(loop: object, evaluate: object, options: Options, declared: Mapping[str, object]) -> Verdict:
    begun = time.monotonic()
    with _running(loop, evaluate, options, declared) as (runner, not_isolated):
        description = _describe(runner, loop)
        verdict = Verdict(
            name=description.name,
            file=description.file,
            lines=description.lines,
            found_evaluate_by=description.found_evaluate_by,
            evaluate_name=description.evaluate_name,
            asked=_asked(loop, evaluate, options, {**description.declared.changed(), **declared}),
            seed=options.seed,
            not_isolated=not_isolated,
            remarks=description.notes,
        )
        _Trial(runner, description, options, verdict).run()
        if (why := verdict.not_run.get("objective-differs", "")).startswith(NOT_COMPARED):
            verdict.remarks = (*verdict.remarks, why)
        verdict.output = runner.output
    verdict.seconds = time.monotonic() - begun
    return verdict


def describe(loop: object, evaluate: object = None, options: Options | None = None, **declared: object) -> Description:
    """Return what `verify` would verify: the loop is bound as there, in a process of its own.

    Raises:
        UserError: ``loop`` is not a training loop, or cannot be bound.
    """
    with _running(loop, evaluate, options or Options(), declared) as (runner, _):
        return _describe(runner, loop)


@contextmanager
def _running(
    loop: object, evaluate: object, options: Options, declared: Mapping[str, object]
) -> Iterator[tuple[Sandbox | InProcess, str]]:
    """Yield what runs the loop, and why it does so in this process; "" if it does not."""
    # The first optimizer of a process loads a good part of torch: here, where each child inherits it.
    with uncollected():
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.0)
    setup = partial(answer_for, loop, evaluate, declared, options.give)
    method = None if options.in_process else start_method(options.device)
    not_isolated = "asked for" if method is None else can_isolate(setup, options.device, method)
    runner = Sandbox(setup, timeout=options.timeout, start_method=method) if not_isolated is None else InProcess(setup)
    with frozen(), runner, _one_thread():
        yield runner, not_isolated or ""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: the tensors are tiny, and threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _describe(runner: Sandbox | InProcess, loop: object) -> Description:
    try:
        description: Description = runner.ask(None)
    except Ended as ended:
        if not isinstance(loop, str):
            name = getattr(loop, "__qualname__", type(loop).__name__)
            raise UserError(f"{name} {ended.detail} while it was bound, expected it to return") from None
        raise UserError(
            f"{loop} {ended.detail} while it was imported, expected a file that defines a loop and trains only when "
            f"that is called: to watch what it does as it runs, {check_command(loop)}"
        ) from None
    return description


def _asked(loop: object, evaluate: object, options: Options, declared: Mapping[str, object]) -> Asked:
    return Asked(
        loop=loop if isinstance(loop, str) else None,
        evaluate=evaluate if isinstance(evaluate, str) else None,
        declared=declared if evaluate is None or isinstance(evaluate, str) else {**declared, "evaluate": evaluate},
        only=options.laws,
        options=options.changed(),
    )


class _Found(Exception):
    """Ends the search at a random case in which a bug showed; Hypothesis makes that case smaller."""

    def __init__(self, judgement: Judgement) -> None:
        super().__init__()
        self.judgement = judgement


@dataclass
class _Trial:
    """Tries one loop in cases, and adds to its verdict."""

    runner: Sandbox | InProcess
    description: Description
    options: Options
    verdict: Verdict
    ends: int = 0
    tried: int = 0
    dtype: str = "float64"

    def run(self) -> None:
        """Try the cases that are asked for, or else the battery, and random ones after a battery without a bug."""
        if self.options.cases is not None:
            plan = [self.prepared(Experiment(case, all_runs(self.description))) for case in self.options.cases]
            for experiment, following in zip_longest(plan, plan[1:]):
                self.add(experiment, following)
                self.report_progress(len(plan))
            return
        self.choose_dtype()
        plan = [self.prepared(one) for one in battery(self.description, self.dtype)[: self.options.fixed_cases]]
        for experiment, following in zip_longest(plan, plan[1:]):
            if self.ends < MOST_ENDS:
                self.add(experiment, following)
                self.report_progress(len(plan) + self.options.random_cases)
        if not self.verdict.bugs and self.options.random_cases:
            self.search()
        self.verdict.judgements = settled(self.verdict.judgements)

    def choose_dtype(self) -> None:
        """Use float32 for a loop that raises in the plainest case in float64 and does not in float32.

        Raises:
            UserError: it raises in both, with full batches alone too, and no law says why, or its forwards are not
                seen: it was not tried.
        """
        exact = basis(self.description)
        first = self.judgement(self.prepared(Experiment(exact), always=RAISING))
        if self.ends:
            self.verdict.judgements.append(first)
        if first.unseen and not _is_explained(first):
            raise UserError(not_seen(self.description))
        if self.ends or not _raised(first) or _is_explained(first):
            return
        # A loop that cannot do with a partial batch raises in the plainest case, and is tried all the same.
        size = exact.batch_size
        full = exact.but(samples=max(exact.samples // size, 3) * size, held_out=2 * size)
        for case, dtype in ((exact, "float32"), (full, "float64"), (full, "float32")):
            if not _raised(self.judgement(self.prepared(Experiment(case.but(dtype=dtype)), always=RAISING))):
                if dtype == "float32":
                    self.dtype = dtype
                    told = "the loop raises in float64: tried in float32, whose rounding hides more"
                    self.verdict.skipped[exact] = told
                return
        raised = next(finding.text for finding in first.findings if finding.id == "loop-raises")
        for batches in MORE_BATCHES if "ZeroDivisionError" in raised else ():
            if not _raised(self.judgement(self.prepared(Experiment(longer(exact, batches)), always=RAISING))):
                self.description = dataclasses.replace(self.description, least_batches=batches)
                self.verdict.remarks = (*self.verdict.remarks, FEW_BATCHES.format(batches=batches))
                return
        if raised.startswith("evaluation") and self.description.found_evaluate_by == "beside":
            raise _EvaluationRaises(
                EVALUATION_RAISES.format(name=self.description.evaluate_name, why=printable(raised))
            )
        raise UserError(not_tried(self.description, first, self.verdict.asked, self.options.give))

    def add(self, experiment: Experiment, following: Experiment | None) -> None:
        """Try one experiment, and add its judgement to the verdict."""
        judgement = self.judgement(experiment, following)
        if experiment.case.model == "frozen" and _raised_with(judgement, NO_GRADIENT):
            self.verdict.skipped[experiment.case] = READS_NO_GRADIENT
            return
        if experiment.optional == LAST_OF_ONE and self.description.own_model and _raised_with(judgement, ONE_SAMPLE):
            # It is the loop's own model, and the number of samples that the caller has may not leave one over.
            told = [dataclasses.replace(one, level="info") for one in judgement.findings if one.id == "loop-raises"]
            judgement = dataclasses.replace(judgement, findings=told)
        elif experiment.optional and _raised(judgement):
            self.verdict.skipped[experiment.case] = f"the loop raises, as it may: {experiment.optional}"
            return
        self.verdict.judgements.append(judgement)
        if any(finding.id == "loop-exhausts-memory" for finding in judgement.findings):
            self.ends = MOST_ENDS  # each further case would fill the memory again

    def search(self) -> None:
        """Try random cases; of the first in which a bug shows, keep the smallest that shows it."""
        drawn: list[Experiment] = []
        self.each_drawn(lambda experiment: drawn.append(self.prepared(experiment)), Phase.generate)
        known: dict[Experiment, Judgement] = {}
        for experiment, following in zip_longest(drawn, drawn[1:]):
            known[experiment] = self.random_judgement(experiment, following)
            if self.has_bug(known[experiment]):
                break
        ran = list(known.values())

        def try_again(experiment: Experiment) -> None:
            experiment = self.prepared(experiment)
            judgement = known.get(experiment)
            if judgement is None:
                judgement = known[experiment] = self.random_judgement(experiment)
                ran.append(judgement)
            if self.has_bug(judgement):
                raise _Found(judgement)

        if ran and self.has_bug(ran[-1]):
            try:
                self.each_drawn(try_again, Phase.generate, Phase.shrink)
            except _Found as found:
                self.verdict.judgements.append(found.judgement)
        self.verdict.judgements += [judgement for judgement in ran if not self.has_bug(judgement)]
        self.verdict.random_cases = len(ran)

    def each_drawn(self, function: Callable[[Experiment], None], *phases: Phase) -> None:
        """Call the function with each random experiment, the same ones each time."""

        @hypothesis.seed(self.options.seed)
        @settings(
            max_examples=self.options.random_cases,
            database=None,
            deadline=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @hypothesis.given(experiments(self.description, self.dtype))
        def call(experiment: Experiment) -> None:
            function(experiment)

        with _hypothesis_elsewhere():
            call()

    def random_judgement(self, experiment: Experiment, following: Experiment | None = None) -> Judgement:
        """Try a random experiment. A last batch of one that the loop itself made breaks no law."""
        judgement = self.judgement(experiment, following)
        why = ""
        if self.description.builds_its_loader and _raised_with(judgement, ONE_SAMPLE):
            why = f"the loop raises, as it may: {LAST_OF_ONE}"
        elif experiment.case.model == "frozen" and _raised_with(judgement, NO_GRADIENT):
            why = READS_NO_GRADIENT
        if why:
            self.verdict.skipped[experiment.case] = why
            judgement = Judgement(experiment.case)
        self.report_progress(self.tried)
        return judgement

    def has_bug(self, judgement: Judgement) -> bool:
        """Return whether a case shows a bug that is neither silenced nor a consequence of one that is.

        What the cases before explain, such as a step that is left out in this case alone, is none.
        """
        *_, judgement = settled([*self.verdict.judgements, judgement])
        silenced = {finding.id for finding in judgement.findings if self.verdict.ignored(finding)}
        return any(
            finding.severity == "bug" and finding.id not in silenced and finding.consequence_of not in silenced
            for finding in judgement.findings
        )

    def prepared(self, experiment: Experiment, always: tuple[str, ...] = ()) -> Experiment:
        """Return the experiment on the device asked for, for those of its laws that are asked for, or ``always``."""
        chosen = set(self.options.laws or LAWS) & set(experiment.laws or LAWS) | set(always)
        case = experiment.case if self.options.device == "cpu" else experiment.case.but(device=self.options.device)
        return dataclasses.replace(experiment, case=case, laws=tuple(sorted(chosen)))

    def judgement(self, experiment: Experiment, following: Experiment | None = None) -> Judgement:
        """Have the loop run a prepared experiment, and hold what was recorded to its laws.

        While this process judges, the loop runs the following experiment.

        Raises:
            UserError: it raised for want of a file of its own, or the objective that it declares is of no use.
        """
        try:
            answer: Any = self.runner.ask(experiment, following)
        except Ended as ended:
            self.ends += 1 if ended.kind != "hang" else MOST_ENDS
            return Judgement(experiment.case, [Finding(KINDS[ended.kind], 0, _how(ended), experiment.case)])
        judgement = answer if isinstance(answer, Judgement) else judge_recordings(unpack(answer), experiment.laws)
        if lost := _lacks_a_file(judgement):
            raise UserError(f"{self.description.name} was not tried: {printable(lost.text)}; {TO_HAVE_IT}")
        if self.runner.processes:
            if PROCESSES in experiment.laws:
                _note_processes(judgement, self.runner.processes)
            self.runner.close()  # and so they end
        return judgement

    def report_progress(self, planned: int) -> None:
        """Report progress to `Options.on_case`."""
        self.tried += 1
        if self.options.on_case is not None:
            self.options.on_case(self.tried, max(planned, self.tried))


@contextmanager
def _hypothesis_elsewhere() -> Iterator[None]:
    """Have Hypothesis keep what it finds in the source of local modules in our cache, not in the working folder.

    Without its files it parses all the source again in each run, which takes half a second.
    """
    before = configuration.storage_directory(intent_to_write=False).path
    with ExitStack() as stack:
        try:
            folder = cache_folder()
        except RuntimeError:  # the user has no home
            folder = stack.enter_context(temporary_folder("hypothesis"))
        configuration.set_hypothesis_home_dir(folder / "hypothesis")
        stack.callback(configuration.set_hypothesis_home_dir, before)
        yield


def _note_processes(judgement: Judgement, processes: Sequence[str]) -> None:
    """Add the finding that a loop left processes behind, which are not in its recording."""
    left = f"still running: {', '.join(processes[:MOST_NAMED])}"
    left += f" and {len(processes) - MOST_NAMED} others" if len(processes) > MOST_NAMED else ""
    if PROCESSES in judgement.held:
        judgement.held.remove(PROCESSES)
        judgement.findings = ranked([*judgement.findings, Finding(PROCESSES, LAST, left, judgement.case)])


def settled(judgements: list[Judgement]) -> list[Judgement]:
    """Return the judgements as the other ones explain them.

    A step that is taken in other cases is not missing, and a loop that stops early in one case alone may do so.
    """
    held = {id_ for judgement in judgements for id_ in judgement.held}
    if not held & {"step-missing", "epochs-miscounted"}:
        return judgements
    return [
        dataclasses.replace(judgement, findings=list(_settled(judgement.findings, held))) for judgement in judgements
    ]


def _settled(findings: list[Finding], held: set[str]) -> Iterator[Finding]:
    for finding in findings:
        if "step-missing" in held and "step-missing" in (finding.id, finding.consequence_of):
            if finding.id == "step-missing":
                told = "no step was taken, and in other cases one is"
                yield dataclasses.replace(finding, id="steps-skipped", text=told)
        elif finding.id == "epochs-miscounted" and finding.id in held:
            yield dataclasses.replace(finding, text=f"{finding.text}; in other cases it is right", level="info")
        else:
            yield finding


def not_tried(
    of: Description, judgement: Judgement, asked: Asked | None = None, given: Mapping[str, Any] | None = None
) -> str:
    """Say that a loop raises even in the plainest case, where, and what to do."""

    def typed(option: str) -> str:
        loop, declared = (None, {}) if asked is None else (asked.loop, dict(asked.declared))
        if asked is not None and asked.evaluate is not None:
            declared["evaluate"] = asked.evaluate
        return command(loop or "SPEC", given or {}, declared, option)

    raised = next(finding for finding in judgement.findings if finding.id == "loop-raises")
    found = f"{of.name} was not tried: in the plainest case, in float64 and in float32, {printable(raised.text)}"
    if raised.text.startswith("evaluation"):
        return f"{found}; expected {of.evaluate_name} to fit: name another with --evaluate SPEC, or --evaluate none"
    if missing := re.search(r"--give \S+=VALUE", raised.text):
        return f"{found}; expected a value for it: {typed(missing[0])}"
    if missing := re.search(LACKS_A_NAME, raised.text):
        return f"{found}; expected a value for it, a literal of Python: {typed(f'--give {missing[1]}=VALUE')}"
    if re.search(LACKS_A_PACKAGE, raised.text):
        return f"{found}; expected its packages to be installed: install them"
    hint = _other_form(of, raised.text)
    program = "FILE" if of.file is None else Path(of.file).name
    shape = of.declared.input_shape or IMAGE_SHAPE
    return (
        f"{found}; expected a loop that trains a classifier on batches (images, labels) with images of shape {shape}: "
        f"{hint and f'say what it takes instead ({typed(hint)}), '}declare its model and input (--declare model=NAME "
        "--declare input_shape=C,H,W), change this adapter until it "
        f"fits, or watch the program that calls the loop as it is: mnist-loop check {program}\n\n{of.adapter}\n"
    )


def _other_form(of: Description, error: str) -> str:
    """Return what to declare for batches that are dicts, or outputs that are a part of what a model returns."""
    line = error.rpartition(": ")[2]
    if "list indices must be integers" in error and of.declared.batch is None:
        source = "" if of.file is None or of.lines is None else "".join(linecache.getlines(of.file)[slice(*of.lines)])
        keys = [*dict.fromkeys(re.findall(r"""\[["'](\w+)["']\]""", source))]
        return f"--declare batch={','.join(keys[:2]) if len(keys) >= len('xy') else 'IMAGE,LABEL'}"
    if "values to unpack (expected 2)" in error and re.search(r"=.*\(", line) and of.declared.output is None:
        return "--declare output=0"
    if "iteration over a 0-d tensor" in error and of.declared.loss_output is None and "loss_fn" in of.roles:
        return "--declare loss_output=0"
    return ""


def not_seen(of: Description) -> str:
    """Say that a loop steps an optimizer without a forward of the model, so that nothing can be judged."""
    program = "FILE" if of.file is None else Path(of.file).name
    return (
        f"{of.name} was not tried: it steps an optimizer, and no forward of the model that it is handed was seen; "
        "expected a loop that calls that model, as in model(images): hand over what it calls (--declare model=NAME), "
        f"or watch the program that calls the loop as it is: mnist-loop check {program}"
    )


def _is_explained(judgement: Judgement) -> bool:
    """Return whether a law names the bug of a loop that raised, and not for want of what others have."""
    if any(re.search(f"{LACKS_A_NAME}|{LACKS_A_PACKAGE}", one.text) for one in judgement.findings):
        return False
    return any(finding.severity == "bug" and not finding.bug.catch_all for finding in judgement.findings)


def _lacks_a_file(judgement: Judgement) -> Finding | None:
    """Return the finding of a loop that raised for want of a file or a folder, which is no bug of it."""
    raised = (finding for finding in judgement.findings if finding.id == "loop-raises")
    resumes = judgement.case is not None and judgement.case.resume
    return next((one for one in raised if re.search(LACKS_A_FILE, one.text) and not resumes), None)


def _raised(judgement: Judgement) -> bool:
    return any(finding.id in ("loop-raises", *ENDED) for finding in judgement.findings)


def _raised_with(judgement: Judgement, error: str) -> bool:
    """Return whether the loop raised an error whose text matches."""
    return any(one.id == "loop-raises" and re.search(error, one.text) for one in judgement.findings)


def _how(ended: Ended) -> str:
    """Say how the process ended, and where in the author's files it was then."""
    lines = [line.strip() for line in (ended.traceback or "").splitlines() if line.strip().startswith("File ")]
    own = [line for line in lines if is_authored(line.split('"')[1])]
    return f"it {ended.detail}" + (f", in {own[0]}" if own else "")
