"""The comparison's side of its workers: starting them, asking them, and knowing when they are gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from mnist_loop.compare.arms import PACKAGE, Arm
from mnist_loop.errors import UserError

START_S = 300.0  # importing torch takes 2 to 20 s; a minute or more from a cold network disk
ANSWER_S = 300.0  # a block takes 0.005 s; on a machine that swaps or hangs much more
END_S = 5.0
MOST_TOLD = 2000  # characters of what a worker printed, when it ended
UNWANTED = ("PYTHONHOME", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")  # they would bend another Python to this one's library


class WorkerLost(Exception):
    """A worker ended, or does not answer; the message says which and how."""


class Peer:
    """One end of a conversation.

    Args:
        connection: to the other end.
        label: of the arm, for messages.
        log: where the other end's output goes.
    """

    def __init__(self, connection: Connection, label: str, log: Path) -> None:
        self.connection, self.label, self.log = connection, label, log

    def ask(self, do: str, timeout_s: float = ANSWER_S, **details: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            WorkerLost: the other end is gone or silent.
            UserError: it says that it cannot do what it was asked for.
        """
        try:
            self.connection.send_bytes(json.dumps({"do": do, **details}).encode())
            return self.hear(timeout_s, do)
        except (EOFError, OSError) as error:
            raise WorkerLost(
                f"{self.label}: its process ended while asked for {do!r}{_last_words(self.log)}"
            ) from error

    def hear(self, timeout_s: float, do: str) -> dict[str, Any]:
        """Wait for one answer."""
        if not self.connection.poll(timeout_s):
            raise WorkerLost(f"{self.label}: no answer for {timeout_s:.0f} s when asked for {do!r}")
        reply: dict[str, Any] = json.loads(self.connection.recv_bytes())
        if "error" in reply:
            raise UserError(f"{self.label}: {reply['error']}")
        return reply

    def close(self) -> None:
        """End the conversation; the other end then ends too."""
        with suppress(OSError):
            self.connection.close()


class Host:
    """The process of one environment, from which the workers of its arms are forked.

    Args:
        arm: one of the arms that run in this environment.
        folder: for the socket and the log.
    """

    def __init__(self, arm: Arm, folder: Path) -> None:
        self.arm, self.folder = arm, folder
        self.number = 0
        self.log = folder / f"{id(self)}.log"
        self.listener = self._listener()
        self.process = self._start()
        self.peer: Peer | None = None

    def connect(self) -> Peer:
        """Wait until the process has imported what it needs."""
        if self.peer is None:
            self.peer = Peer(self._accept(self.listener), self.arm.label, self.log)
            self.peer.hear(START_S, "start")
        return self.peer

    def worker(self, label: str) -> Peer:
        """Start a worker; where there is no fork that is the host itself, started anew at each call but the first."""
        listener = self._listener()
        with listener:
            forked = self.connect().ask("fork", address=str(listener.address))
            if forked["forked"]:
                return Peer(self._accept(listener), label, self.log)
        if self.number > 0:
            self.close()
            self.__init__(self.arm, self.folder)  # type: ignore[misc]  # a restart is a new host in the old one's place
            self.connect()
        self.number += 1
        assert self.peer is not None
        return Peer(self.peer.connection, label, self.log)

    def close(self) -> None:
        """End the process, and wait until it has."""
        if self.peer is not None:
            self.peer.close()
        self.listener.close()
        try:
            self.process.wait(END_S if self.peer is not None else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _listener(self) -> Listener:
        if sys.platform == "win32":
            return Listener(family="AF_PIPE")
        # A socket's path holds about a hundred characters: not below a long temporary folder's name.
        return Listener(tempfile.mktemp(prefix="s", dir=self.folder), family="AF_UNIX")  # noqa: S306  # ours alone

    def _start(self) -> subprocess.Popen[bytes]:
        script = PACKAGE / "compare" / "worker.py"
        command = [self.arm.python, str(script), str(self.listener.address), str(self.arm.package)]
        with self.log.open("ab") as log:
            try:
                return subprocess.Popen(  # noqa: S603  # the Python that the person named
                    [*command, str(PACKAGE)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=_variables(self.arm.variables),
                    start_new_session=True,  # Ctrl-C is for the comparison alone
                )
            except OSError as error:
                raise UserError(f"{self.arm.label}: {self.arm.python} cannot be started ({error.strerror})") from error

    def _accept(self, listener: Listener) -> Connection:
        """Wait for the other end, or for the end of its process: a `Listener` itself knows no time limit."""
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
        raise WorkerLost(f"{self.arm.label}: {self.arm.python} {why}{_last_words(self.log)}")


def _last_words(log: Path) -> str:
    """Return the last line that a process printed, for the end of a sentence."""
    with suppress(OSError):
        text = log.read_text(errors="replace")[-MOST_TOLD:].strip()
        if text:
            return f"; its last words: {text.splitlines()[-1]}"
    return ""


def _variables(own: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    return {**inherited, "PYTHONUNBUFFERED": "1", **own}
