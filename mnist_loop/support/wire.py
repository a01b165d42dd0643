"""Requests and answers between two processes: JSON objects over a connection, one request and one answer at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mnist_loop.errors import UserError

ANSWER_S = 300.0  # for importing torch, loading data, compiling
LONGEST_ERROR = 500  # characters of an error's first line that are told
LONGEST_LOG = 2000  # characters of a process's output that are searched for its last line

Message = dict[str, Any]


class WorkerLost(Exception):
    """A worker process has ended or does not answer; the message says which, and how it ended."""


def send_message(connection: Connection, message: Message) -> None:
    """Send one message."""
    connection.send_bytes(json.dumps(message).encode())


def receive_message(connection: Connection) -> Message:
    """Wait for one message."""
    message: Message = json.loads(connection.recv_bytes())
    return message


def failure(error: BaseException) -> Message:
    """Return the answer that reports an error: its first line, after the kind of an error that is not ours."""
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    if not lines:
        return {"error": kind}
    line = lines[0] if len(lines[0]) <= LONGEST_ERROR else f"{lines[0][:LONGEST_ERROR]} ..."
    return {"error": line if isinstance(error, UserError) else f"{kind}: {line}"}


def answer_requests(connection: Connection, handle: Callable[[Message], Message]) -> None:
    """Answer requests until the other process closes the connection."""
    while True:
        try:
            request = receive_message(connection)
        except (EOFError, OSError):
            return
        try:
            reply = handle(request)
        except EOFError:  # the connection was closed while the request was handled
            return
        except Exception as error:  # noqa: BLE001  # the other process reports it, whatever it is
            reply = failure(error)
        try:
            send_message(connection, reply)
        except OSError:
            return


class Peer:
    """The process at the other end of a connection.

    Args:
        connection: to it.
        label: its name in messages.
        log: the file that its output goes to.

    Attributes:
        patience_s: how long an answer is waited for.
    """

    def __init__(self, connection: Connection, label: str, log: Path) -> None:
        self.connection, self.label, self.log = connection, label, log
        self.patience_s = ANSWER_S

    def ask(self, do: str, timeout_s: float | None = None, **details: Any) -> Message:
        """Send a request and wait for its answer, for ``timeout_s`` seconds or as long as `patience_s` says.

        Raises:
            WorkerLost: the process has ended or does not answer in time.
            UserError: it reports an error.
        """
        try:
            send_message(self.connection, {"do": do, **details})
            return self.wait_for_answer(self.patience_s if timeout_s is None else timeout_s, do)
        except (EOFError, OSError) as error:
            raise WorkerLost(f"{self.label}: its process ended while asked for {do!r}{last_words(self.log)}") from error

    def wait_for_answer(self, timeout_s: float, do: str) -> Message:
        """Wait for the answer to a request.

        Raises:
            WorkerLost: there is none in time.
            UserError: the process reports an error.
        """
        if not self.connection.poll(timeout_s):
            raise WorkerLost(f"{self.label}: no answer for {timeout_s:.0f} s, the time limit, when asked for {do!r}")
        reply = receive_message(self.connection)
        if "error" in reply:
            raise UserError(f"{self.label}: {reply['error']}")
        return reply

    def close(self) -> None:
        """Close the connection; the other process then ends too."""
        with suppress(OSError):
            self.connection.close()


def last_words(log: Path) -> str:
    """Return the last line that a process printed, for the end of a sentence."""
    with suppress(OSError):
        text = log.read_text(errors="replace")[-LONGEST_LOG:].strip()
        if text:
            return f"; its last words: {text.splitlines()[-1]}"
    return ""
