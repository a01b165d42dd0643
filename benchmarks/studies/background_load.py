"""A background load: one core busy, for seconds at a time."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = (0.2, 4.0)  # of load, and of pause
SEED = 0


@contextmanager
def background_load(wanted: bool) -> Iterator[None]:
    """Keep one core busy now and then during the block, if ``wanted``."""
    if not wanted:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_come_and_go, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _come_and_go() -> None:
    chance = random.Random(SEED)  # noqa: S311  # no secret
    while True:
        end = time.perf_counter() + chance.uniform(*SECONDS)
        while time.perf_counter() < end:
            sum(range(1000))
        time.sleep(chance.uniform(*SECONDS))
