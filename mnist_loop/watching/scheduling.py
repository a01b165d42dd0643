"""Learning-rate schedules: how often each is stepped, and when."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from mnist_loop.support.horizon import horizon_of
from mnist_loop.watching.log import SeenScheduler
from mnist_loop.watching.transparent import site

if TYPE_CHECKING:
    from mnist_loop.watching.watcher import Watcher


class ScheduleWatch:
    """Follows the schedules."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.seen: dict[int, SeenScheduler] = {}
        self.depth = 0

    def made(self, scheduler: Any, optimizer: Any, kwargs: dict[str, Any]) -> None:
        """Note that a schedule was built."""
        number = self.watcher.optimizer(optimizer).number if hasattr(optimizer, "param_groups") else None
        name = type(scheduler).__name__
        seen = SeenScheduler(weakref.ref(scheduler), name, number, site())
        seen.horizon = horizon_of(scheduler)
        seen.loaded = kwargs.get("last_epoch", -1) != -1
        for part in getattr(scheduler, "_schedulers", ()):
            if (inner := self.of(part)) is not None:
                inner.inner = True
        self.seen[id(scheduler)] = seen
        self.watcher.log.schedulers.append(seen)

    def of(self, scheduler: Any) -> SeenScheduler | None:
        """Return what is known of a schedule."""
        seen = self.seen.get(id(scheduler))
        return seen if seen is not None and seen.ref() is scheduler else None

    def stepped(self, scheduler: Any) -> None:
        """Note that the script stepped a schedule."""
        seen = self.of(scheduler)
        if seen is None:
            return
        seen.steps += 1
        if seen.steps == 1:
            seen.first_step = site()
        log = self.watcher.log
        if seen.optimizer is not None and not log.optimizers[seen.optimizer].steps:
            seen.before += 1

    def asked(self, scheduler: Any) -> None:
        """Note that a schedule, or a copy of it, was asked for its learning rates: whoever asks may set them."""
        for seen in self.watcher.log.schedulers:
            of = None if seen.optimizer is None else self.watcher.log.optimizers[seen.optimizer].ref()
            seen.asked |= seen.name == type(scheduler).__name__ and of is getattr(scheduler, "optimizer", None)

    def loaded(self, scheduler: Any) -> None:
        """Note that the state of a schedule was loaded."""
        seen = self.of(scheduler)
        if seen is not None:
            seen.loaded = True
