"""``watch``: watch the training in a block, as in a notebook or a test."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mnist_loop.watching.hooks import installed
from mnist_loop.watching.summary import verdict_on
from mnist_loop.watching.watcher import Watcher

if TYPE_CHECKING:
    from mnist_loop.verdict.verdict import Verdict


class Seen:
    """What `watch` has seen.

    Attributes:
        verdict: what is to be said of it; from the end of the block on it stays as it is.
    """

    def __init__(self, watcher: Watcher, name: str) -> None:
        self._watcher, self._name = watcher, name
        self._final: Verdict | None = None

    @property
    def verdict(self) -> Verdict:
        """The `mnist_loop.Verdict` on what was seen so far."""
        return self._final or verdict_on(self._watcher, self._name)

    def __repr__(self) -> str:
        """Return the verdict in short."""
        return repr(self.verdict)


@contextmanager
def watch(name: str = "the block") -> Iterator[Seen]:
    """Watch what trains in a block, and name its bugs; the training itself is not changed.

    ::

        with mnist_loop.watch() as seen:
            train(model, loader)
        assert not seen.verdict.bugs, str(seen.verdict)

    Args:
        name: what the verdict calls it.
    """
    watcher = Watcher()
    seen = Seen(watcher, name)
    with installed(watcher):
        yield seen
        watcher.log.complete = True
    state = random.getstate()
    try:
        seen._final = verdict_on(watcher, name)
    finally:
        random.setstate(state)  # a library that the verdict needs draws from it while it is imported
