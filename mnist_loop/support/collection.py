"""Python's cyclic garbage collector, kept from going through what an import has made, again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect nothing within: for an import of torch, which leaves half a million objects and no garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def frozen() -> Iterator[None]:
    """Leave the objects of before out of the collections within, unless the program keeps such a set of its own."""
    own = gc.get_freeze_count() > 0
    if not own:
        gc.freeze()
    try:
        yield
    finally:
        if not own:
            gc.unfreeze()
