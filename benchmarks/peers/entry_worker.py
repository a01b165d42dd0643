"""The process of one entry: it trains an epoch at each request of the run, over the pipe that it inherits.

What its framework prints goes to a log. Arguments: DESCRIPTOR FOLDER NAME THREADS
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from dataclasses import asdict
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mnist_loop.support.wire import answer_requests

from . import entries, task


class EntryWorker:
    """Trains one entry at the requests of the run.

    Args:
        folder: where the task is.
        name: of the entry.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.epoch_of: entries.EpochFunction | None = None
        self.idle_since = 0.0

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request."""
        do = {"start": self.start, "prepare": self.prepare, "epoch": self.epoch, "ruler": self.ruler}
        return do[request["do"]]()

    def start(self) -> dict[str, Any]:
        """Import the framework and build the model; reading the data is not timed."""
        found = task.load_task(self.folder)
        started = time.perf_counter()
        entry = entries.load_entry(self.name)
        self.epoch_of = entry.start(found)
        seconds = time.perf_counter() - started
        versions = {name: metadata.version(name) for name in entry.NEEDS}
        return {"seconds": seconds, "versions": versions, "used": entry.USED}

    def prepare(self) -> dict[str, Any]:
        """Prepare the entry, where it has a preparation."""
        started = time.perf_counter()
        note = getattr(self.epoch_of, "prepare", str)()
        seconds = time.perf_counter() - started
        self.idle_since = time.process_time()
        return {"seconds": seconds if note else 0.0, "note": note}

    def epoch(self) -> dict[str, Any]:
        """Train an epoch; ``idle_cpu_s`` is the CPU time that the process took since the last one."""
        assert self.epoch_of is not None, "start comes first"
        cpu, started = time.process_time(), time.perf_counter()
        loss = self.epoch_of()
        seconds = time.perf_counter() - started
        idle, self.idle_since = cpu - self.idle_since, time.process_time()
        return {"seconds": seconds, "loss": loss, "cpu_s": self.idle_since - cpu, "idle_cpu_s": idle}

    @staticmethod
    def ruler() -> dict[str, Any]:
        """Measure the rates of the machine itself, with torch."""
        import torch

        from mnist_loop.bench import ruler

        return asdict(ruler.measure_ruler(torch.device("cpu")))


def hold_to(threads: int) -> None:
    """Bind this process and its children to as many CPUs as there are threads, where the system can.

    JAX takes as many threads as it has CPUs, without an option for another number.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main(descriptor: str, folder: str, name: str, threads: str) -> None:
    """Answer until the run closes the pipe."""
    hold_to(int(threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run handles Ctrl-C
    os.set_inheritable(int(descriptor), False)  # or a child would keep the pipe open
    warnings.simplefilter("ignore")  # frameworks advise on hardware, loggers and workers
    answer_requests(Connection(int(descriptor)), EntryWorker(Path(folder), name).handle)


if __name__ == "__main__":
    main(*sys.argv[1:])
