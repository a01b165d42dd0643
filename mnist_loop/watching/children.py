"""Processes that a watched program starts: each is watched by itself, and hands over what it found in a file."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_loop.watching.on_import import once_torch_is_imported

if TYPE_CHECKING:
    from mnist_loop.verdict.finding import Judgement

DATA_WORKERS = "torch.utils.data"  # the module of what a DataLoader's workers run: they load, and do not train


@dataclass
class Told:
    """What a process has found.

    Attributes:
        judgement: of its training.
        watched: what was watched in it, in a sentence.
    """

    judgement: Judgement
    watched: str


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
        self.folder = ""
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
            children.folder = children.folder or tempfile.mkdtemp(prefix="mnist-loop-check-")
            process._target = WatchedTarget(target, children.folder)
            try:
                original(process)
            finally:
                process._target = target

        BaseProcess.start = start  # type: ignore[method-assign, assignment]

    def take_out(self) -> list[Told]:
        """Watch no more processes; return what those that trained have told."""
        BaseProcess.start = self.start  # type: ignore[method-assign]
        if not self.folder:
            return []
        told = [_read(file) for file in sorted(Path(self.folder).glob("*.json"))]
        shutil.rmtree(self.folder, ignore_errors=True)
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

    if not (watcher.log.backwards or watcher.log.steps) or not folder.is_dir():
        return
    judgement = judge(watcher.log)
    told = Told(judgement, watched(watcher, judgement))
    file = folder / f"{os.getpid()}.json"
    file.with_suffix(".part").write_text(json.dumps(dataclasses.asdict(told)))
    file.with_suffix(".part").replace(file)


def _read(file: Path) -> Told:
    from mnist_loop.verdict.finding import Finding, Judgement
    from mnist_loop.verdict.location import SourceLine

    content = json.loads(file.read_text())
    judgement = content["judgement"]
    judgement["findings"] = [
        Finding(**{**found, "line": None if found["line"] is None else SourceLine(**found["line"])})
        for found in judgement["findings"]
    ]
    return Told(Judgement(**judgement), content["watched"])
