"""Host processes: one for each environment of a comparison, from which the workers of its arms are forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, Listener
from pathlib import Path

from mnist_loop.compare.arms import PACKAGE, Arm
from mnist_loop.errors import UserError
from mnist_loop.support.wire import Peer, WorkerLost, last_words

START_S = 300.0  # importing torch takes 2 to 20 s; a minute or more from a cold network disk
END_S = 5.0
UNWANTED = ("PYTHONHOME", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")  # they would lead another Python to this one's library


class HostProcess:
    """The process of one environment; the workers of its arms are forked from it.

    Args:
        arm: one of the arms that run in this environment.
        folder: for the socket and the log.
    """

    def __init__(self, arm: Arm, folder: Path) -> None:
        self.arm, self.folder = arm, folder
        self.log = folder / f"{id(self)}.log"
        self.peer: Peer | None = None
        self.is_used = False
        self.listener, self.process = self._start()

    def connect(self) -> Peer:
        """Wait until the process has imported what it needs."""
        if self.peer is None:
            self.peer = Peer(self._accept(self.listener), self.arm.label, self.log)
            self.peer.wait_for_answer(START_S, "start")
        return self.peer

    def worker(self, label: str) -> Peer:
        """Start a worker. Where there is no fork it is the host itself, which each call but the first starts again."""
        listener = self._listener()
        with listener:
            forked = self.connect().ask("fork", address=str(listener.address))
            if forked["forked"]:
                return Peer(self._accept(listener), label, self.log)
        if self.is_used:
            self.close()
            self.peer = None
            self.listener, self.process = self._start()
        self.is_used = True
        return Peer(self.connect().connection, label, self.log)

    def close(self) -> None:
        """End the process and its workers, whatever they do, and wait until it has."""
        if self.peer is not None:
            self.peer.close()
        self.listener.close()
        try:
            self.process.wait(END_S if self.peer is not None else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):  # workers that are in the middle of a step
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _listener(self) -> Listener:
        if sys.platform == "win32":
            return Listener(family="AF_PIPE")
        # In this folder: a socket's path has at most about a hundred characters.
        return Listener(tempfile.mktemp(prefix="s", dir=self.folder), family="AF_UNIX")  # noqa: S306  # ours alone

    def _start(self) -> tuple[Listener, subprocess.Popen[bytes]]:
        listener = self._listener()
        script = PACKAGE / "compare" / "worker.py"
        command = [self.arm.python, str(script), str(listener.address), str(self.arm.package)]
        with self.log.open("ab") as log:
            try:
                process = subprocess.Popen(  # noqa: S603  # the Python that the person named
                    [*command, str(PACKAGE)],
                    stdin=subprocess.PIPE,  # its end tells the process that this one has ended
                    stdout=log,
                    stderr=log,
                    env=_variables(self.arm.variables),
                    start_new_session=True,  # Ctrl-C is for the comparison alone
                )
            except OSError as error:
                raise UserError(f"{self.arm.label}: {self.arm.python} cannot be started ({error.strerror})") from error
        return listener, process

    def _accept(self, listener: Listener) -> Connection:
        """Wait until the process connects or ends: `Listener.accept` has no time limit."""
        found: list[Connection] = []

        def accept() -> None:
            with suppress(OSError, EOFError):
                found.append(listener.accept())

        waiting = threading.Thread(target=accept, daemon=True)
        waiting.start()
        for _ in range(int(START_S * 10)):
            waiting.join(0.1)
            if found:
                return found[0]
            if self.process.poll() is not None:
                break
        code = self.process.poll()
        why = f"ended with exit code {code}" if code is not None else f"is not ready after {START_S:.0f} s"
        raise WorkerLost(f"{self.arm.label}: {self.arm.python} {why}{last_words(self.log)}")


def _variables(own: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    return {**inherited, "PYTHONUNBUFFERED": "1", **own}
