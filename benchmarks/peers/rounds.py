"""A run: each entry is started, and then trains one epoch a round, in random order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mnist_loop.bench import machine
from mnist_loop.errors import UserError
from mnist_loop.support.wire import WorkerLost

from . import entries, entry_process
from .task import Task

KIND = "mnist_loop_peers"
SCHEMA = 1
FIRST = 0  # the round of the first epoch, in which much is compiled: it is reported apart

Line = dict[str, Any]


@dataclass(frozen=True)
class PeersPlan:
    """The plan of a run.

    Attributes:
        names: of the entries.
        rounds: epochs of each entry, besides the first.
        threads: of each entry.
        seed: of the order in a round.
        limit_s: limit of a start and of an epoch, in seconds.
    """

    names: tuple[str, ...]
    rounds: int
    threads: int
    seed: int
    limit_s: float


class PeersRun:
    """A run. However it ends, ``lines`` has all that was measured, as it was given to ``write``.

    Args:
        plan: entries, rounds, threads, limits.
        task: what is trained.
        folder: for the task and the logs; used by this run alone.
        write: called with each line of the result.
        say: called with each sentence for the user.
    """

    def __init__(
        self, plan: PeersPlan, task: Task, folder: Path, write: Callable[[Line], object], say: Callable[[str], object]
    ) -> None:
        self.plan, self.task, self.folder = plan, task, folder
        self.write_line, self.say = write, say
        self.lines: list[Line] = []
        self.workers: dict[str, entry_process.EntryProcess] = {}

    def run(self) -> None:
        """Measure all of the plan; end all processes, however it ends."""
        why = "interrupted"
        try:
            self.task.save(self.folder)
            self.write(self.head())
            self.ruler()
            for name in self.plan.names:
                self.start(name)
            chance = random.Random(self.plan.seed)  # noqa: S311  # no secret
            for number in range(FIRST + 1, self.plan.rounds + 1):
                names = list(self.workers)
                chance.shuffle(names)
                self.round(number, names)
            self.ruler()
            why = "done"
        finally:
            for worker in self.workers.values():
                worker.close()
            with suppress(UserError):  # the first line that could not be written has raised it
                self.write({"event": "end", "why": why, "time": machine.current_state()["time"]})

    def write(self, line: Line) -> None:
        """Keep a line of the result, and write it."""
        self.lines.append(line)
        self.write_line(line)

    def head(self) -> Line:
        """Return the first line: plan, task, machine, software."""
        return {
            KIND: SCHEMA,
            "plan": asdict(self.plan),
            "task": asdict(self.task.settings),
            "machine": {"name": machine.label(), **machine.identity()},
            "software": machine.software(),
            "state": machine.current_state(),
        }

    def ruler(self) -> None:
        """Measure the machine itself, in a process that ends before the entries continue."""
        worker = entry_process.start_process(entries.REFERENCE, self.folder, self.plan.threads)
        try:
            self.write({"event": "ruler", **worker.peer.ask("ruler", self.plan.limit_s)})
        except (UserError, WorkerLost) as error:
            self.say(f"no ruler: {error}")
        finally:
            worker.close()

    def start(self, name: str) -> None:
        """Start an entry and train its first epoch; a failure is recorded with its reason."""
        absent = missing(entries.load_entry(name).NEEDS)
        if absent:
            self.fail(name, FIRST, f"not installed: {', '.join(absent)}")
            return
        worker = entry_process.start_process(name, self.folder, self.plan.threads)
        try:
            started = worker.peer.ask("start", self.plan.limit_s)
            prepared = worker.peer.ask("prepare", self.plan.limit_s)
        except (UserError, WorkerLost) as error:
            worker.close()
            self.fail(name, FIRST, str(error))
            return
        except BaseException:
            worker.close()
            raise
        self.workers[name] = worker
        self.write(
            {"event": "start", "entry": name, **started, "prepare_s": prepared["seconds"], "note": prepared["note"]}
        )
        self.round(FIRST, [name])

    def round(self, number: int, names: Iterable[str]) -> None:
        """Let each entry train one epoch, one after the other."""
        told = []
        for name in names:
            try:
                found = self.workers[name].peer.ask("epoch", self.plan.limit_s)
            except (UserError, WorkerLost) as error:
                self.workers.pop(name).close()
                self.fail(name, number, str(error))
                continue
            self.write({"event": "epoch", "entry": name, "round": number, "at": time.time(), **found})
            told.append(f"{name} {found['seconds']:.3g} s, loss {found['loss']:.4f}")
        if told:
            self.say(f"{f'round {number}/{self.plan.rounds}' if number else 'first epoch'}: {'; '.join(told)}")

    def fail(self, name: str, number: int, why: str) -> None:
        """Record why an entry stops."""
        reason = why.removeprefix(f"{name}: ")
        self.write({"event": "failed", "entry": name, "round": number, "reason": reason})
        self.say(f"{name} stops: {reason}")


def missing(needs: Iterable[str]) -> list[str]:
    """Return those of the distributions that are not installed."""
    found = {name.lower().replace("_", "-") for one in metadata.distributions() if (name := one.metadata["Name"])}
    return [name for name in needs if name not in found]
