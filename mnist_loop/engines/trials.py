"""Timing trials, by which an engine chooses the fastest way. The candidates take turns, ``COUNT`` times each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

COUNT = 15


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of the second of two calls. The first one wakes threads and fills the caches."""
    work()
    began = clock()
    work()
    return clock() - began


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch use this number of threads."""
    before = torch.get_num_threads()
    if number != before:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if number != before:
            torch.set_num_threads(before)
