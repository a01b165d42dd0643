"""Verifying a loop, from Python: what may be handed in, what comes back, and what a loop cannot do to its judge."""

import functools
import os
import re
import threading
import time
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from mnist_loop.bugs import BUGS, decided_by
from mnist_loop.errors import UserError
from mnist_loop.verdict.finding import ENDED
from mnist_loop.verification.cases.case import Case
from mnist_loop.verification.laws.judge import LAWS
from mnist_loop.verification.options import Options
from mnist_loop.verification.verify import verify
from tests import global_state

QUICK = Options(cases=(Case(), Case(model="probe", epochs=2)))
DEBUG = Options(cases=QUICK.cases, in_process=True)


def train(model, train_loader, loss_fn, optimizer):
    """Train one epoch, as it should be."""
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()


def never_clears(model, train_loader, loss_fn, optimizer):
    """Train one epoch without zero_grad."""
    model.train()
    for images, labels in train_loader:
        loss_fn(model(images), labels).backward()
        optimizer.step()


class Trainer:
    """A loop as a class."""

    def __init__(self, model, optimizer, criterion):
        self.model, self.optimizer, self.criterion = model, optimizer, criterion

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            train(self.model, train_loader, self.criterion, self.optimizer)


class Callable:
    """A loop as an object that is called."""

    def __call__(self, model, train_loader, loss_fn, optimizer):
        train(model, train_loader, loss_fn, optimizer)


def closure():
    calls = []

    def inner(model, train_loader, loss_fn, optimizer):
        calls.append(1)
        train(model, train_loader, loss_fn, optimizer)

    return inner


LOOPS = {
    "function": train,
    "class": Trainer,
    "instance": Callable(),
    "closure": closure(),
    "lambda": lambda model, train_loader, loss_fn, optimizer: train(model, train_loader, loss_fn, optimizer),
    "partial": functools.partial(train),
    "text": "tests.verification.test_verify:train",
}


@pytest.mark.parametrize("options", [QUICK, DEBUG], ids=["isolated", "in process"])
@pytest.mark.parametrize("kind", LOOPS)
def test_whatever_trains_can_be_verified(kind, options):
    """A function, a class, an object, a closure, a lambda, a partial, or the text that says where one is."""
    verdict = verify(LOOPS[kind], options=options)
    assert verdict.diagnoses == []
    assert verdict.primary is None
    assert len(verdict.judgements) == 2
    assert len(verdict.held) > len(LAWS) / 3
    assert bool(verdict.not_isolated) == options.in_process


@pytest.mark.parametrize(
    "spec",
    ["mnist_loop.loop:train_one_epoch", pytest.param("mnist_loop.loop:fit", marks=pytest.mark.slow)],
)
def test_the_reference_is_right(spec):
    """In the battery and in random cases: no finding of any kind, in the default profile, and each law has its say."""
    verdict = verify(spec)
    assert verdict.bugs == []
    assert verdict.diagnoses == []
    assert verdict.failed == {}
    assert verdict.skipped == {}
    assert verdict.not_isolated == ""
    assert verdict.random_cases == Options().random_cases
    assert len(verdict.judgements) > 20
    assert {judgement.primary for judgement in verdict.judgements} == {None}
    assert set(verdict.held) | set(verdict.not_run) | set(ENDED) == set(decided_by("verify"))
    assert not set(verdict.held) & set(verdict.not_run)
    assert {"gradient-differs", "update-differs", "state-differs", "not-reproducible"} <= set(verdict.held)


@pytest.mark.parametrize("options", [QUICK, DEBUG], ids=["isolated", "in process"])
def test_a_broken_loop_has_a_verdict(options):
    """The bug is named, counted in each case in which it shows, and what it brings with it is under it."""
    verdict = verify(never_clears, options=options)
    assert verdict.primary == "zero-grad-missing"
    (diagnosis,) = verdict.bugs
    assert diagnosis.count == 2
    assert diagnosis.finding.case == Case()
    assert "step 1" in diagnosis.finding.text
    assert "gradient-differs" in {finding.id for finding in diagnosis.consequences}
    assert set(verdict.failed) == {diagnosis.id, *(finding.id for finding in diagnosis.consequences)}
    assert not set(verdict.failed) & set(verdict.held)


def test_the_case_of_a_finding_reproduces_it():
    """The case, pasted into `Options.cases`, shows the same finding, word for word."""
    finding = verify(never_clears, options=Options(fixed_cases=2, random_cases=0)).bugs[0].finding
    case = eval(repr(finding.case), {"Case": Case})  # noqa: S307  # our own text
    verdict = verify(never_clears, options=Options(cases=(case,)))
    assert [judgement.case for judgement in verdict.judgements] == [case]
    assert verdict.bugs[0].finding == finding


def test_random_cases_follow_the_seed():
    """The same seed, the same cases; another seed, others. They come where the battery found nothing."""
    cases = {}
    for run, seed in (("one", 3), ("two", 3), ("other", 4)):
        verdict = verify(train, options=Options(fixed_cases=2, random_cases=3, seed=seed, laws=("step-missing",)))
        assert (verdict.random_cases, verdict.seed) == (3, seed)
        cases[run] = [judgement.case for judgement in verdict.judgements]
    assert cases["one"] == cases["two"] != cases["other"]
    assert cases["one"][:-3] == cases["other"][:-3]
    broken = verify(never_clears, options=Options(fixed_cases=2, random_cases=3, laws=("zero-grad-missing",)))
    assert broken.random_cases == 0


def breaks_in_few_cases(model, train_loader, loss_fn, optimizer):
    """Forget zero_grad where the learning rate is one that the battery does not have."""
    if optimizer.param_groups[0]["lr"] in (0.1, 0.01, 0.005):
        never_clears(model, train_loader, loss_fn, optimizer)
    else:
        train(model, train_loader, loss_fn, optimizer)


def test_a_bug_in_few_cases_is_found_by_random_ones():
    """And its case is made smaller: what the bug does not depend on is the simplest that there is."""
    verdict = verify(breaks_in_few_cases, options=Options(fixed_cases=2))
    assert verdict.primary == "zero-grad-missing"
    (diagnosis,) = verdict.bugs
    assert diagnosis.finding.case.lr in (0.1, 0.01, 0.005)
    assert diagnosis.finding.case.epochs == 2
    assert verdict.random_cases > 0


def test_laws_can_be_chosen():
    """The others are neither held, nor broken, nor not run; but bugs that no run decides are still told."""
    verdict = verify(never_clears, options=Options(cases=(Case(),), laws=("step-missing", "clip-missing")))
    assert verdict.failed == {}
    assert set(verdict.held) == {"step-missing"}
    assert set(verdict.not_run) == {"clip-missing", *(bug.id for bug in BUGS.values() if bug.undecided)}


def test_an_evaluation_can_be_handed_in():
    """Its laws are run then; without one they are told not to have been."""

    def keeps_dropout_on(model, test_loader):
        model.train()
        with torch.no_grad():
            right = sum((model(images).argmax(dim=1) == labels).sum() for images, labels in test_loader)
            return right / len(test_loader.dataset)

    assert "evaluates-in-train-mode" in verify(train, options=QUICK).not_run
    assert verify(train, keeps_dropout_on, QUICK).primary == "evaluates-in-train-mode"


def test_intentions_can_be_declared():
    """As keywords, in their own words; a loop that does what it declares is right, and one that does not is not."""

    def accumulates(model, train_loader, loss_fn, optimizer):
        model.train()
        for number, (images, labels) in enumerate(train_loader):
            (loss_fn(model(images), labels) / 2).backward()
            if number % 2:
                optimizer.step()
                optimizer.zero_grad()

    case = Case(samples=16, accumulate=2)
    assert verify(accumulates, options=Options(cases=(case,)), accumulate=2).bugs == []
    assert verify(train, options=Options(cases=(case,)), clip=0.01).bugs != []
    with pytest.raises(UserError, match="did you mean accumulate"):
        verify(train, accumulat=2)


def test_a_model_of_its_own_can_be_declared():
    """The laws are then judged where the model is: in the process of the loop."""

    def small():
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Dropout(0.2), nn.Linear(5, 3))

    declared = {"model": small, "input_shape": (3, 4), "classes": 3}
    options = Options(cases=(Case(model="declared"),))
    assert verify(train, options=options, **declared).diagnoses == []
    verdict = verify(never_clears, options=options, **declared)
    assert verdict.primary == "zero-grad-missing"
    assert verdict.judgements[0].case.model == "declared"


# -- what a loop cannot do to its judge --------------------------------------------------------------------------------


def patches_torch(model, train_loader, loss_fn, optimizer):
    """Smooth the labels by patching torch, for the whole process and all who import it there."""
    own = F.cross_entropy
    if getattr(own, "__name__", "") == "cross_entropy":
        smooth = functools.partial(own, label_smoothing=0.3)
        F.cross_entropy = lambda *args, **kwargs: smooth(*args, **{**kwargs, "label_smoothing": 0.3})
    train(model, train_loader, loss_fn, optimizer)


def test_a_loop_that_patches_torch_is_seen_through():
    """The parent's torch is not patched: the gradient is not that of the mean loss, and that is told."""
    own = F.cross_entropy
    verdict = verify(patches_torch, options=QUICK)
    assert {"gradient-differs", "loss-differs"} & set(verdict.failed)
    assert verdict.bugs
    assert "leaves-global-state" in verdict.failed
    assert F.cross_entropy is own


def hangs(model, train_loader):
    while True:
        time.sleep(0.01)


def exits(model, train_loader):
    raise SystemExit(3)


def exits_at_once(model, train_loader):
    os._exit(3)


def crashes(model, train_loader):
    os.abort()


def exhausts_memory(model, train_loader):
    raise MemoryError


def raises(model, train_loader):
    raise KeyError("no such thing")


@pytest.mark.parametrize(
    ("loop", "bug", "says"),
    [
        (hangs, "loop-hangs", "did not return within 1 s"),
        (exits, "loop-exits", r"called exit\(3\)"),
        (exits_at_once, "loop-exits", r"called os._exit\(3\)"),
        (crashes, "loop-crashes", "SIGABRT"),
    ],
)
def test_a_loop_that_does_not_return_has_a_verdict(loop, bug, says):
    """It hangs, exits or crashes: that is the bug, the first of all, and this process goes on."""
    verdict = verify(loop, options=Options(timeout=1.0, random_cases=2))
    assert verdict.primary == bug

    assert re.search(says, verdict.diagnoses[0].finding.text)
    assert verdict.seconds < 60


def test_a_loop_that_ends_its_process_is_not_tried_for_long():
    """After a few ends, or one time-out, nothing more is learned from further cases."""
    begun = time.monotonic()
    assert len(verify(hangs, options=Options(timeout=0.5)).judgements) == 1
    assert len(verify(exits_at_once, options=Options(timeout=5)).judgements) <= 3
    assert time.monotonic() - begun < 60


def test_what_a_loop_prints_is_kept_apart(capfd):
    """Nothing of it comes to the terminal, and the last of it is in the verdict."""

    def prints(model, train_loader, loss_fn, optimizer):
        print("from the loop")  # noqa: T201  # that is what is tried
        train(model, train_loader, loss_fn, optimizer)

    verdict = verify(prints, options=QUICK)
    assert "from the loop" in verdict.output
    assert capfd.readouterr() == ("", "")


def leaves_all_behind(model, train_loader, loss_fn, optimizer):
    """Train, and change whatever a process has."""
    torch.manual_seed(5)
    torch.set_num_threads(3)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(True)
    train(model, train_loader, loss_fn, optimizer)
    torch.set_grad_enabled(False)
    nn.modules.module.register_module_forward_hook(lambda *_: None)
    os.environ["LEFT_BY_THE_LOOP"] = "1"
    os.chdir(os.sep)
    torch.backends.cudnn.benchmark = True
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


@pytest.mark.parametrize("loop", [train, never_clears, leaves_all_behind, raises])
def test_the_callers_state_is_untouched(loop):
    """Generators, threads, flags, hooks, folder, environment and warnings are as they were; no thread is left."""
    threads = set(threading.enumerate())
    before, filters = global_state.snapshot(), list(warnings.filters)
    verify(loop, options=Options(cases=(Case(),), random_cases=0))
    assert global_state.restore(before) == []
    assert warnings.filters == filters
    assert set(threading.enumerate()) == threads


def test_random_cases_leave_the_callers_state_untouched():
    """Hypothesis seeds generators for its cases, and puts them back."""
    before = global_state.snapshot()
    verify(train, options=Options(fixed_cases=1, random_cases=2, laws=("step-missing",)))
    assert global_state.restore(before) == []


def test_in_this_process_what_a_loop_changes_is_put_back():
    """Flags, hooks, folder and generators; not what no one can know, such as the environment."""

    def changes(model, train_loader, loss_fn, optimizer):
        torch.manual_seed(5)
        torch.set_num_threads(3)
        train(model, train_loader, loss_fn, optimizer)
        torch.set_grad_enabled(False)
        os.chdir(os.sep)

    before = global_state.snapshot()
    verdict = verify(changes, options=DEBUG)
    assert global_state.restore(before) == []
    assert "leaves-global-state" in verdict.failed


def test_the_same_is_found_in_this_process_and_in_another():
    """The verdicts agree, finding by finding."""
    one, other = (verify(never_clears, options=options) for options in (QUICK, DEBUG))
    assert [judgement.findings for judgement in one.judgements] == [
        judgement.findings for judgement in other.judgements
    ]
    assert one.held == other.held
    assert one.not_run == other.not_run


def test_in_this_process_exit_is_a_verdict_and_ctrl_c_is_not():
    """SystemExit is a loop that exits; Ctrl-C is the user's."""

    def interrupted(model, train_loader):
        raise KeyboardInterrupt

    assert verify(exits, options=DEBUG).primary == "loop-exits"
    with pytest.raises(KeyboardInterrupt):
        verify(interrupted, options=DEBUG)


@pytest.mark.parametrize(
    "loop", ["nowhere.py:train", "tests.verification.test_verify:nothing", 42, nn.ReLU(), lambda: None]
)
def test_what_is_no_loop_is_refused_in_a_sentence(loop):
    """Whatever is handed in: a `UserError`, in this process and out of it."""
    for options in (QUICK, DEBUG):
        with pytest.raises(UserError):
            verify(loop, options=options)


def test_a_declared_model_that_fails_is_no_verdict():
    """It is told as what was declared, not as a bug of the loop."""

    def broken():
        raise ZeroDivisionError

    with pytest.raises(UserError, match=r"^the function declared as model raises ZeroDivisionError"):
        verify(train, options=Options(cases=(Case(model="declared"),)), model=broken)


def only_float32(model, train_loader, loss_fn, optimizer):
    """Feed float32 whatever came, as loops do that were never tried with another dtype."""
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images.to(torch.float32)), labels).backward()
        optimizer.step()


def test_a_loop_that_cannot_do_float64_is_tried_in_float32():
    """It is right there; that it was skipped in float64 is told."""
    verdict = verify(only_float32, options=Options(random_cases=2))
    assert verdict.bugs == []
    assert {judgement.case.dtype for judgement in verdict.judgements} == {"float32"}
    assert "float32" in verdict.skipped[Case()]
