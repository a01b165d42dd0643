"""Trials, by which an engine chooses among ways to do the same: they take turns, ``COUNT`` times each."""

from __future__ import annotations

import time
from collections.abc import Callable

COUNT = 15


def seconds(work: Callable[[], object]) -> float:
    """Return what the second of two calls takes: the first one wakes threads, and fills the caches anew."""
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
