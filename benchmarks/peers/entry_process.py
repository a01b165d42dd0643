"""The run's side of an entry: its process, started, asked, and ended with all processes that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Pipe
from pathlib import Path

from mnist_loop.support.wire import Peer

ROOT = Path(__file__).parents[__name__.count(".")]  # in which Python finds this very module
MODULE = f"{__package__}.entry_worker"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUM_CPU_THREADS")  # the last is tinygrad's
# All frameworks use the CPU, and none asks a hub on the network.
VARIABLES = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "DEV": "CPU", "HF_HUB_OFFLINE": "1"}


@dataclass
class EntryProcess:
    """The process of an entry; ``peer`` asks it."""

    peer: Peer
    process: subprocess.Popen[bytes]

    def close(self) -> None:
        """End the process, and every process that it started."""
        self.peer.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start_process(name: str, folder: Path, threads: int) -> EntryProcess:
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
    return EntryProcess(Peer(ours, name, log), process)
