"""Processes that a watched program starts: each is watched by itself, and hands over what it found in a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_loop.support.leftovers import make_folder, release, remove
from mnist_loop.watching.on_import import once_torch_is_imported

if TYPE_CHECKING:
    from mnist_loop.watching.told import Told

DATA_WORKERS = "torch.utils.data"  # the module of what a DataLoader's workers run: they load, and do not train


@dataclass
class WatchedTarget:
    """What a process is to run, and the folder for what is found in it. It is pickled for a process that is spawned."""

    target: Callable[..., Any]
    folder: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it, watched."""
        began: list[tuple[Any, Any]] = []
        once_torch_is_imported(lambda: began.append(_begin()))
        try:
            return self.target(*args, **kwargs)
        finally:
            if began:
                hooks, watcher = began[0]
                hooks.watch(None)
                _tell(watcher, Path(self.folder))


class Children:
    """Has the processes watched that are started between `put_in` and `take_out`.

    Attributes:
        unwatched: number of those that cannot be.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.lock = -1
        self.unwatched = 0
        self.start: Any = None

    def put_in(self) -> None:
        """Begin to watch the processes that are started."""
        self.start = original = BaseProcess.start
        children, owner = self, os.getpid()

        def start(process: Any) -> None:
            target = getattr(process, "_target", None)
            if os.getpid() != owner or getattr(target, "__module__", "").startswith(DATA_WORKERS):
                original(process)
                return
            if target is None:
                children.unwatched += 1
                original(process)
                return
            if children.folder is None:
                children.folder, children.lock = make_folder("check")
            process._target = WatchedTarget(target, str(children.folder))
            try:
                original(process)
            finally:
                process._target = target

        BaseProcess.start = start  # type: ignore[method-assign, assignment]

    def take_out(self) -> list[Told]:
        """Watch no more processes; return what those that trained have told."""
        BaseProcess.start = self.start  # type: ignore[method-assign]
        if self.folder is None:
            return []
        from mnist_loop.watching.told import Told

        told = [Told.from_json(file.read_text()) for file in sorted(self.folder.glob("*.json"))]
        remove(self.folder)
        release(self.lock)
        return told


def _begin() -> tuple[Any, Any]:
    from mnist_loop.watching.hooks import Hooks
    from mnist_loop.watching.watcher import Watcher

    hooks, watcher = Hooks(), Watcher()
    hooks.put_in()
    hooks.watch(watcher)
    return hooks, watcher


def _tell(watcher: Any, folder: Path) -> None:
    from mnist_loop.watching.judge import judge
    from mnist_loop.watching.summary import watched
    from mnist_loop.watching.told import Told

    if not (watcher.log.backwards or watcher.log.steps) or not folder.is_dir():
        return
    judgement = judge(watcher.log)
    told = Told(judgement, watched(watcher, judgement))
    file = folder / f"{os.getpid()}.json"
    file.with_suffix(".part").write_text(told.to_json())
    file.with_suffix(".part").replace(file)
