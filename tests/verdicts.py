"""Verdicts on the loops under tests/loops: each found once a session, most of them by processes beside the tests."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

from mnist_loop.bench.machine import available_cpus
from mnist_loop.verdict.verdict import Verdict
from mnist_loop.verification.options import Options
from mnist_loop.verification.verify import verify
from tests.loops.correct import CORRECT, Correct
from tests.loops.mutants import MUTANTS, Mutant

SHORT = 6  # experiments of the battery, its first: what most bugs show in
PLAIN = 3  # experiments that a correct loop is tried in; the whole battery is slow
HANG_S = 5.0  # until a loop that hangs on purpose has hung
TIMEOUT_S = 300.0  # in the first case of a correct loop a framework is imported
POLITE = 10  # niceness of the processes beside the tests
FEW = 8  # verdicts: starting processes for fewer takes longer than finding them
OF_XDIST = "PYTEST_XDIST_WORKER" in os.environ  # which the tests' own sessions of pytest must not see, later

Job = tuple[str, str]  # "mutant" or "correct", and the loop's name
_ahead: dict[Job, Future[Verdict]] = {}


@functools.cache
def on_mutant(name: str) -> Verdict:
    """Return the verdict on a mutant in the first experiments, or in the whole battery if they show nothing."""
    return _verdict(("mutant", name))


@functools.cache
def in_battery(name: str) -> Verdict:
    """Return the verdict on a mutant in the whole battery."""
    return quietly(_mutant(name), Options(random_cases=0))


@functools.cache
def on_correct(name: str) -> Verdict:
    """Return the verdict on a correct loop in the first experiments of the battery."""
    return _verdict(("correct", name))


def quietly(loop: Mutant | Correct, options: Options) -> Verdict:
    """Verify a loop. What it warns of is its own affair, and one that hangs on purpose is not waited for long."""
    if isinstance(loop, Mutant) and loop.bug == "loop-hangs":
        options = Options(**{**vars(options), "timeout": HANG_S})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return verify(loop.loop, options=options)


@contextmanager
def found_ahead(jobs: Sequence[Job]) -> Iterator[None]:
    """Find the verdicts in processes of low priority, while other tests run.

    A test that asks for one waits where it is being found.

    Under pytest-xdist, whose processes are enough, each is found by the test that asks.
    """
    if len(jobs) < FEW or OF_XDIST:
        yield
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(available_cpus(), context, _begin) as pool:
        _ahead.update({job: pool.submit(_find, *job) for job in jobs})
        yield
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    os.nice(POLITE)
    # The first optimizer imports torch's compiler, which sets a variable of the environment: once, and here.
    importlib.import_module("torch._dynamo")


def _verdict(job: Job) -> Verdict:
    ahead = _ahead.pop(job, None)
    # What no process has begun with is found here, which takes less time than to wait.
    return _find(*job) if ahead is None or ahead.cancel() else ahead.result()


def _find(kind: str, name: str) -> Verdict:
    if kind == "mutant":
        found = quietly(_mutant(name), Options(fixed_cases=SHORT, random_cases=0))
        return found if found.primary else quietly(_mutant(name), Options(random_cases=0))
    loop = next(loop for loop in CORRECT if loop.name == name)
    return quietly(loop, Options(fixed_cases=PLAIN, random_cases=0, timeout=TIMEOUT_S))


def _mutant(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)
