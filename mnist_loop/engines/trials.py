"""Timing trials, by which an engine chooses the fastest way. The candidates take turns, ``COUNT`` times each."""

from __future__ import annotations

import time
from collections.abc import Callable

COUNT = 15


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds of the second of two calls. The first one wakes threads and fills the caches."""
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
