"""The run's side of its workers: starting one process an entry, asking it, ending it with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

from mnist_loop.compare.processes import Peer

ROOT = Path(__file__).parents[2]
MODULE = "benchmarks.peers.worker"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUM_CPU_THREADS")  # the last is tinygrad's
# All is for the CPU, and nothing asks a hub on the network for something newer.
VARIABLES = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "DEV": "CPU", "HF_HUB_OFFLINE": "1"}


@dataclass
class Worker:
    """A running worker."""

    peer: Peer
    process: subprocess.Popen[bytes]

    def ask(self, do: str, limit_s: float) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            WorkerLost: the process has ended, or does not answer within the limit.
            UserError: it says what went wrong.
        """
        return self.peer.ask(do, limit_s)

    def close(self) -> None:
        """End the process, and every process that it started."""
        self.peer.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start(name: str, folder: Path, threads: int) -> Worker:
    """Start the process of entry ``name`` for the task in ``folder``; its output goes to a log there."""
    ours, theirs = Pipe()
    log = folder / f"{name}.log"
    variables = {**os.environ, **VARIABLES, **dict.fromkeys(THREADS, str(threads)), "PYTHONUNBUFFERED": "1"}
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("wb") as file, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, str(theirs.fileno()), str(folder), name, str(threads)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=variables,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the run alone
        )
    return Worker(Peer(ours, name, log), process)
