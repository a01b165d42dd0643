"""The isolation in which a user's loop is run: a child process that may hang, exit or crash, and a clear word if so."""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, cast

import psutil
import torch

from mnist_loop.errors import UserError
from mnist_loop.verification.sandbox import child, processes
from mnist_loop.verification.sandbox.child import BROKEN, GRACE_S, LOST, Answer, Message, Setup, attempt, new_threads
from mnist_loop.verification.sandbox.processes import (
    Child,
    Gone,
    Late,
    command_line,
    fork,
    is_helper,
    spawn,
    wait_for_end,
)

GIB = 2**30
START_S = 120.0  # for a new interpreter to import torch, from a cold disk too
ABORTED_FOR_MEMORY = (b"std::bad_alloc", b"MemoryError", b"out of memory", b"can't allocate memory")
OURS = frozenset({"mnist_loop", "torch", "numpy"})  # packages that a reply may have imported

Stage = Literal["start", "setup", "answer"]
Kind = Literal["hang", "exit", "crash", "memory", "pipe"]


class Ended(Exception):
    """The child is gone, or had to be killed.

    Attributes:
        kind: ``"hang"``: it did not return in time. ``"exit"``: it ended itself, by exit(), os._exit or an exception
            such as KeyboardInterrupt that ends a program. ``"crash"``: a signal killed it. ``"memory"``: it needed more
            memory than it may use or the system has. ``"pipe"``: it closed the file descriptors that its replies go
            through, which it was not given, or broke a part of Python that they need.
        detail: what it did, to follow a subject: "did not return within 30 s", "called exit(3)".
        stage: ``"start"`` of the process, its ``"setup"``, or the ``"answer"`` to a request.
        output: the last 64 KiB of what it wrote to stdout and stderr.
        traceback: where its main thread was, as far as it can be told; None where not.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        stage: Stage = "answer",
        output: str = "",
        traceback: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind: Kind = kind
        self.detail = detail
        self.stage: Stage = stage
        self.output = output
        self.traceback = traceback


class Failed(RuntimeError):
    """The setup or the answer raised an exception, or its reply cannot be brought over. The child lives on.

    Attributes:
        traceback: of what was raised, as text; None for a reply that cannot be brought over.
    """

    def __init__(self, sentence: str, traceback: str | None = None) -> None:
        super().__init__(f"{sentence}\n{traceback}" if traceback else sentence)
        self.traceback = traceback


class Sandbox:
    """A child process that answers requests within limits of time, memory and output.

    The child starts with the first request, and a new one with the first request after it has ended. It has one thread
    in torch, no stdin, and a process group of its own, which ends with it, with this object, and with this process. Of
    the processes that it starts, those that leave the group are ended too as long as the child itself lives to be asked
    for them. It works in a scratch folder (scratch.py), which is removed with it. One Sandbox serves one request at a
    time, from any thread.

    Args:
        setup: called in the child first; returns the function that answers requests.
        timeout: seconds that the setup may take, and each answer.
        memory: bytes that the child may allocate beyond what it has at its start; None for no limit. Linux alone.
        start_method: ``"fork"``: the child is a copy of this process. ``"spawn"``: it is a new interpreter, and the
            setup is pickled. None: as `start_method` chooses for the CPU.

    Attributes:
        output: the last 64 KiB of what the child, the latest one, wrote to stdout and stderr.
        leftovers: threads and processes that the latest answer started and that outlived it, a short phrase each.
        processes: those of them that are processes.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        timeout: float,
        memory: int | None = 2 * GIB,
        start_method: str | None = None,
    ) -> None:
        if start_method not in (None, "fork", "spawn"):
            raise ValueError(f"start_method {start_method!r} found, expected 'fork', 'spawn' or None")
        self.leftovers: list[str] = []
        self.processes: list[str] = []
        self._setup = setup
        self._timeout = timeout
        self._memory = memory
        self._start_method = start_method
        self._child: Child | None = None
        self._output = ""
        self._known: set[psutil.Process] = set()  # processes that outlived an earlier answer
        self._begun: Any = None  # the request that the child was sent ahead
        self._lock = threading.RLock()

    @property
    def output(self) -> str:
        """The last 64 KiB of what the child wrote to stdout and stderr."""
        return self._output if self._child is None else _decode(self._child.output)

    def ask(self, request: Any, then: Any = None) -> Any:
        """Return the child's reply to the request.

        Args:
            request: plain data.
            then: the request that will be made next. The child begins with it while this reply is looked at, unless
                processes are left of the answer. A child that has begun with another request than is made is ended.

        Raises:
            Ended: the child has ended, or had to be killed.
            UserError: the setup or the answer raised it.
            Failed: either raised another exception, or the request or the reply cannot be pickled.
        """
        with self._lock:
            self.leftovers, self.processes = [], []
            begun = self._begun is not None and self._begun is request
            data = None if begun else _pickled(request)
            if self._begun is not None and not begun:
                self.close()
            following = None if then is None else _pickled(then)
            try:
                process = self._child or self._start()
                message = self._hear(process, data, "answer")
                self._begun = None
                self._note_leftovers(process, message)
                value = _value(message, "answer", self.output, self._memory)
                if following is not None and not self.processes:
                    process.send(following)
                    self._begun = then
                return value
            except (UserError, Failed):  # the child lives on
                raise
            except BaseException:  # Ctrl-C too
                self.close()
                raise

    def close(self) -> None:
        """End the child and all that it started, whatever they do."""
        with self._lock:
            process, self._child, self._begun = self._child, None, None
            self._known = set()
            if process is not None:
                process.kill()
                self._output = _decode(process.output)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> Child:
        """Start a child and have it do the setup."""
        if processes.loading_main:
            raise RuntimeError(
                "the main module starts a Sandbox while a spawned child imports it: start it under "
                'if __name__ == "__main__":'
            )
        setup, memory = self._setup, self._memory
        first = None
        if (self._start_method or start_method("cpu")) == "fork":
            self._child = Child(lambda ends, place: fork(lambda e: child.serve(e, memory, place, lambda: setup), ends))
        else:
            first = processes.spawn_message(setup)
            self._child = Child(lambda ends, place: spawn(ends, memory, place))
        self._output = ""
        self._hear(self._child, None, "start")
        try:
            _value(self._hear(self._child, first, "setup"), "setup", self.output, self._memory)
        except (UserError, Failed):
            self.close()
            raise
        return self._child

    def _hear(self, process: Child, data: bytes | None, stage: Stage) -> Message:
        """Send what is to be sent, and return the next message. Ends the child where there is none."""
        timeout = START_S if stage == "start" else self._timeout
        try:
            if data is not None:
                process.send(data)
            reply = process.receive(time.monotonic() + timeout)
        except Late:
            stack = _own_frames(process.stack())
            self.close()
            detail = f"did not return within {timeout:g} s"
            raise Ended("hang", detail, stage=stage, output=self._output, traceback=stack) from None
        except Gone:
            self.close()
            kind, detail = self._verdict(process)
            stack = _own_frames(_decode(process.stacks))
            raise Ended(kind, detail, stage=stage, output=self._output, traceback=stack) from None
        return _unpickled(reply)

    def _note_leftovers(self, process: Child, message: Message) -> None:
        """Note what the answer left behind, once what is about to end has had time to do so."""
        self.leftovers += message.threads
        if message.processes or process.group():
            new = [p for p in process.family() if p not in self._known and not is_helper(p)]
            left = wait_for_end(new, GRACE_S)
            self._known.update(left)
            self.processes = [f"process {p.pid} ({command_line(p)})" for p in left]
            self.leftovers += self.processes

    def _verdict(self, process: Child) -> tuple[Kind, str]:
        """Say how a child that is gone has ended."""
        status = process.status
        if status is None:
            return "crash", "ended, and how was told to another part of this program"
        if status == LOST:
            return "pipe", "closed the file descriptors that its replies go through"
        if status == BROKEN:
            return "pipe", "broke a part of Python that its replies need"
        if status >= 0:
            return "exit", f"called os._exit({status})"
        aborted = -status == signal.SIGABRT and any(word in process.output for word in ABORTED_FOR_MEMORY)
        if aborted:
            return "memory", _memory_detail(self._memory)
        if -status == signal.SIGKILL and process.out_of_memory():
            return "memory", "was killed by the system, whose memory had run out"
        try:
            name = signal.Signals(-status).name
        except ValueError:  # a real-time signal
            return "crash", f"was killed by signal {-status}"
        return "crash", f"was killed by {name} ({(signal.strsignal(-status) or name).lower()})"


class InProcess:
    """What `Sandbox` is, without its protection: for debugging, and for what cannot be isolated.

    Nothing is limited, output goes where it always goes, and a loop that hangs, exits by os._exit or crashes takes this
    process with it. What the loop raises comes as from a `Sandbox`, with the original exception as its cause; Ctrl-C is
    Ctrl-C.
    """

    output = ""
    processes: tuple[str, ...] = ()

    def __init__(self, setup: Setup) -> None:
        self.leftovers: list[str] = []
        self._setup = setup
        self._answer: Answer | None = None

    def ask(self, request: Any, then: Any = None) -> Any:  # noqa: ARG002  # nothing is begun with ahead
        """Return the reply to the request. Raises what `Sandbox.ask` raises, as far as it can be."""
        self.leftovers = []
        if self._answer is None:
            self._answer = self._call(self._setup, "setup")
        answer, known = self._answer, set(threading.enumerate())
        try:
            return self._call(lambda: answer(request), "answer")
        finally:
            self.leftovers = [child.describe_thread(thread) for thread in new_threads(known)]

    def close(self) -> None:
        """Forget the setup: the next request begins with it again."""
        self._answer = None

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _call(function: Callable[[], Any], stage: Stage) -> Any:
        message = attempt(function)
        if isinstance(message.error, KeyboardInterrupt):
            raise message.error
        try:
            return _value(message, stage, "", None)
        except Exception as error:
            raise error from message.error


def start_method(device: str | torch.device) -> str:
    """Return how a child that computes on the device is best started: ``"fork"`` or ``"spawn"``.

    A fork takes milliseconds, a new interpreter seconds to import torch. But of the devices only the CPU survives a
    fork; and on a machine with CUDA, even that cannot compute a gradient after this process has computed one.
    """
    if sys.platform != "linux" or torch.device(device).type != "cpu":
        return "spawn"
    return "fork" if processes.fork_works() else "spawn"


def can_isolate(setup: Setup, device: str | torch.device, method: str) -> str | None:
    """Return None where a `Sandbox` that is started so can run the setup, else the reason why not, a sentence."""
    if os.name != "posix":
        return f"there is no isolation on {sys.platform}: it needs the process groups of Linux or macOS"
    if method == "fork":
        return None
    try:
        processes.spawn_message(setup)
    except Exception as error:  # noqa: BLE001  # what __reduce__ of others raises
        return (
            f"a child process for {device} must be a new interpreter, and the loop cannot be sent there "
            f"({_sentence(error)}): give it as file.py:name or package.module:name"
        )
    return None


def _value(message: Message, stage: Stage, output: str, memory: int | None) -> Any:
    """Return what the message brings, or raise it."""
    if message.kind == "user error":
        kind, text = message.value
        raise kind(text)
    if message.kind == "failed":
        raise Failed(message.value, message.traceback)
    if message.kind == "exit":
        raise Ended("exit", message.value, stage=stage, output=output, traceback=message.traceback)
    if message.kind == "memory":
        raise Ended("memory", _memory_detail(memory), stage=stage, output=output, traceback=message.traceback)
    return message.value


def _memory_detail(memory: int | None) -> str:
    if memory is None:
        return "needed more memory than there is"
    return f"needed more than the {memory / GIB:g} GiB of memory that it may use"


class _Unpickler(pickle.Unpickler):
    """Reads a reply without importing what the user's code may have made."""

    def find_class(self, module: str, name: str) -> Any:
        if module not in sys.modules and module.partition(".")[0] not in OURS | sys.stdlib_module_names:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, and {module} is not loaded here")
        return super().find_class(module, name)


def _unpickled(data: bytes) -> Message:
    try:
        message = _Unpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise Failed(f"the reply cannot be unpickled ({_sentence(error)}): reply with plain data") from error
    return cast("Message", message)


def _pickled(request: Any) -> bytes:
    try:
        return pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise Failed(f"the request cannot be pickled ({_sentence(error)}): ask with plain data") from error


def _sentence(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _decode(data: bytearray) -> str:
    return data.decode(errors="replace")


def _own_frames(stack: str) -> str | None:
    """Return the user's part of what faulthandler wrote, the innermost frame first; None where there is none."""
    lines = []
    for line in stack.splitlines():
        if line.startswith((f'  File "{child.__file__}"', "Extension modules:")):
            break
        lines.append(line)
    return "\n".join(lines).strip() + "\n" if any(line.startswith("  File") for line in lines) else None
