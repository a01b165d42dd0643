"""The child's side of isolation: a process is made ready for code that may do anything, and answers requests.

What is needed after code of others has run is taken here by name, before it runs: what it patches in the modules of
Python or torch changes nothing here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import io
import multiprocessing.process
import multiprocessing.util
import os
import signal
import struct
import sys
import termios
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import active_children
from os import _exit, getpid, read, write
from pathlib import Path
from pickle import HIGHEST_PROTOCOL, dumps, loads
from signal import ITIMER_PROF, ITIMER_REAL, ITIMER_VIRTUAL, setitimer
from threading import enumerate as all_threads
from time import monotonic
from types import TracebackType
from typing import Any, Literal, NoReturn

import torch

from mnist_loop.errors import UserError
from mnist_loop.support.life import die_with_parent
from mnist_loop.verification.sandbox import scratch
from mnist_loop.verification.sandbox.scratch import Scratch

LOST = 251  # exit code of a child that cannot reach its parent any more; few programs have it for their own
BROKEN = 252  # exit code of a child in which the code that makes the replies fails
TORCH_HAS_NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"  # in the text of a RuntimeError
HEADER = 8  # bytes of the length before each message
GRACE_S = 0.2  # for threads that are about to end when an answer returns
# macOS has no waitid before Python 3.13.
waitid = getattr(os, "waitid", None)
ANY_CHILD = (os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) if waitid is not None else ()
SIZE = (24, 80)  # lines and columns of the terminal that is stdin
ENDS = b"\x04" * 1000  # Ctrl-D: as many reads of stdin find its end; a terminal holds some thousand characters
STATUS = Path("/proc/self/status")
PR_SET_CHILD_SUBREAPER = 36  # of prctl

Answer = Callable[[Any], Any]
Setup = Callable[[], Answer]


@dataclass(frozen=True)
class Ends:
    """The child's ends of the pipes to its parent, as numbers of file descriptors.

    Attributes:
        requests: read from: pickled requests.
        replies: written to: pickled messages.
        output: written to: becomes stdout and stderr.
        stacks: written to: where Python was, when it crashed or when the parent asks by STACK_SIGNAL.
        life: nothing ever comes; its end is the parent's.
    """

    requests: int
    replies: int
    output: int
    stacks: int
    life: int


@dataclass(frozen=True)
class Message:
    """What the child tells its parent.

    Attributes:
        kind: ``"started"`` when the process is ready for the setup, ``"ready"`` when the setup has returned;
            then, of the setup or an answer: ``"returned"`` with the value, ``"user error"`` with its class and text,
            ``"failed"`` (an exception), ``"exit"`` (SystemExit and its like) or ``"memory"`` with a sentence.
        value: as the kind says.
        traceback: of what was raised, without the frames of this module.
        threads: which threads the answer left behind.
        processes: whether the child may have child processes of its own.
        error: what was raised, as long as the message is in the process that made it.
    """

    kind: Literal["started", "ready", "returned", "user error", "failed", "exit", "memory"]
    value: Any = None
    traceback: str | None = None
    threads: tuple[str, ...] = ()
    processes: bool = False
    error: BaseException | None = None


def stack_signal() -> signal.Signals:
    """Return the signal at which the child writes where its main thread is: one that hardly any program uses."""
    return getattr(signal, "SIGRTMAX", signal.SIGUSR2)


def serve(ends: Ends, memory: int | None, place: Scratch, load_setup: Callable[[], Setup]) -> NoReturn:
    """Make this process ready, answer requests until the parent closes the pipe, and end the process.

    Args:
        ends: of the pipes to the parent.
        memory: bytes that may be allocated beyond what the process has now; None for no limit.
        place: the scratch folder to work in.
        load_setup: returns the setup; what it raises counts as raised by the setup.
    """
    code = LOST
    try:
        stdout, stderr = _prepare(ends, memory)
        scratch.enter(place)
        code = _converse(ends, load_setup, lambda: _flush(stdout, stderr))
    except OSError:  # the parent is gone, or the pipes are closed
        pass
    except BaseException:  # noqa: BLE001  # nothing may return into the code that was forked
        code = BROKEN
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        _exit(code)


def _converse(ends: Ends, load_setup: Callable[[], Setup], flush: Callable[[], None]) -> int:
    own = getpid()
    _send(ends, Message("started"))
    known = set(all_threads())
    message = attempt(lambda: load_setup()())
    if getpid() != own:  # the setup forked and returned in both processes
        return 0
    flush()
    if message.kind != "returned":
        _send(ends, replace(message, error=None))
        return 0
    answer = message.value
    _send(ends, Message("ready"))
    while (data := receive(ends.requests)) is not None:
        message = attempt(lambda data=data: answer(loads(data)))  # type: ignore[misc]  # noqa: S301  # from the parent
        if getpid() != own:
            return 0
        _stop_alarms()
        flush()
        message = replace(message, error=None)  # which holds the frames, and they the loop's tensors
        left = _left_behind(known)
        known.update(left)
        names = tuple(describe_thread(thread) for thread in left)
        _send(ends, replace(message, threads=names, processes=_has_children()))
    return 0


def attempt(function: Callable[[], Any]) -> Message:
    """Call the function, and say what it returned or raised; nothing that it raises comes through."""
    try:
        return Message("returned", function())
    except UserError as error:
        # A class that the user's code made is not known to the parent.
        known = type(error) if type(error).__module__.startswith("mnist_loop.") else UserError
        return Message("user error", (known, _text(error)), _traceback(error), error=error)
    except SystemExit as error:
        if (refused := scratch.refusal(error)) is not None:  # which the loop met, and gave up
            return Message("user error", (type(refused), str(refused)), _traceback(error), error=error)
        code = "" if error.code is None else _text(error.code, repr)
        return Message("exit", f"called exit({code})", _traceback(error), error=error)
    except MemoryError as error:
        return Message("memory", "ran out of memory", _traceback(error), error=error)
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent tells it
        if TORCH_HAS_NO_MEMORY in _text(error):
            return Message("memory", "ran out of memory", _traceback(error), error=error)
        return Message("failed", f"{type(error).__name__}: {_text(error)}", _traceback(error), error=error)
    except BaseException as error:  # noqa: BLE001  # KeyboardInterrupt and its like end a program
        return Message("exit", f"raised {type(error).__name__}, which ends a program", _traceback(error), error=error)


def _text(value: object, form: Callable[[object], str] = str) -> str:
    try:
        return form(value)
    except BaseException as error:  # noqa: BLE001  # a broken __str__ of others
        return f"<its text cannot be had: {type(error).__name__}>"


def _traceback(error: BaseException) -> str:
    frames: TracebackType | None = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:  # noqa: BLE001  # a broken exception of others
        return f"{type(error).__name__}\n"


def _send(ends: Ends, message: Message) -> None:
    try:
        data = dumps(message, HIGHEST_PROTOCOL)
    except MemoryError:
        data = dumps(Message("memory", "ran out of memory while its reply was pickled"))
    except BaseException as error:  # noqa: BLE001  # the objects are of others, and so are their methods
        text = f"the reply cannot be pickled ({type(error).__name__}: {_text(error)}): reply with plain data"
        data = dumps(Message("failed", text, None, message.threads, message.processes))
    left = memoryview(len(data).to_bytes(HEADER, "big") + data)
    while left:
        left = left[write(ends.replies, left) :]


def receive(file: int) -> bytes | None:
    """Return the next message, or None at the end of the pipe."""
    header = _read_exactly(file, HEADER)
    return None if header is None else _read_exactly(file, int.from_bytes(header, "big"))


def _read_exactly(file: int, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = read(file, min(size - len(data), 2**20))
        if not part:
            return None
        data += part
    return bytes(data)


def _flush(*streams: io.TextIOWrapper) -> None:
    for stream in (*streams, getattr(sys, "stdout", None), getattr(sys, "stderr", None)):
        with contextlib.suppress(BaseException):  # closed, replaced by anything, or its file descriptor is gone
            stream.flush()  # type: ignore[union-attr]


def _stop_alarms() -> None:
    """Stop timers that the answer left running: their signals would end the process in a later one."""
    for timer in (ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF):
        setitimer(timer, 0)


def new_threads(known: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that run and are not among those known; none of those that C++ started, as autograd does."""
    return [t for t in all_threads() if t not in known and not isinstance(t, threading._DummyThread)]


def describe_thread(thread: threading.Thread) -> str:
    """Return a phrase for the thread."""
    return f"thread {_text(thread.name)}{' (daemon)' if thread.daemon else ''}"


def _left_behind(known: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that are new and are not about to end."""
    if not new_threads(known) and not active_children():
        return []
    gc.collect()  # a DataLoader's iterator in a reference cycle ends its threads and processes when it is collected
    end = monotonic() + GRACE_S
    for thread in new_threads(known):
        thread.join(max(0.0, end - monotonic()))
    return new_threads(known)


def _has_children() -> bool:
    if waitid is None:
        return True
    try:
        waitid(*ANY_CHILD)
    except ChildProcessError:
        return False
    return True


def _prepare(ends: Ends, memory: int | None) -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    """Cut what ties the process to its parent's terminal, signals and threads; return the new stdout and stderr."""
    for file in (ends.requests, ends.replies, ends.output, ends.stacks, ends.life):
        os.set_inheritable(file, False)
    if os.getpgrp() != getpid():
        os.setsid()  # and thus a process group of its own, which is killed as one
    _reset_signals()
    streams = _redirect(ends.output)
    os.close(ends.output)
    _unhook_debugger()
    die_with_parent(ends.life)
    _adopt_orphans()
    faulthandler.disable()  # pytest's writes to the parent's terminal
    faulthandler.enable(ends.stacks, all_threads=False)
    faulthandler.register(stack_signal(), ends.stacks, all_threads=False)
    _forget_processes()
    gc.freeze()  # what the parent made is the parent's to finalise
    # libgomp's threads do not survive a fork; and one thread gives the same bits on each machine.
    torch.set_num_threads(1)
    if memory is not None:
        _limit_memory(memory)
    return streams


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _redirect(output: int) -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    null = _terminal()
    for file, target in ((null, 0), (output, 1), (output, 2)):
        if file == target:  # the parent's stdin was closed, and /dev/null came in its place
            os.set_inheritable(file, True)
        else:
            os.dup2(file, target)
    if null > 2:
        os.close(null)
    # A thread of the parent may have held the lock of its buffer at the fork: the streams are new.
    sys.stdin = sys.__stdin__ = _stream(0, "r")  # type: ignore[misc]
    stdout, stderr = _stream(1, "w"), _stream(2, "w")
    sys.stdout = sys.__stdout__ = stdout  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = stderr  # type: ignore[misc]
    return stdout, stderr


def _terminal() -> int:
    """Open a terminal with nobody at it, each read of which finds its end; the null device where there is none.

    Programs ask a terminal for its size as they are imported, and fail without one.
    """
    try:
        keyboard, terminal = os.openpty()
    except OSError:
        return os.open(os.devnull, os.O_RDONLY)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
    os.write(keyboard, ENDS)
    return terminal


def _stream(file: int, mode: Literal["r", "w"]) -> io.TextIOWrapper:
    return open(file, mode, buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _unhook_debugger() -> None:
    """Let pdb ask on the new stdin: pytest's goes back to the terminal and waits there."""
    sys.breakpointhook = sys.__breakpointhook__
    pdb = sys.modules.get("pdb")
    if pdb is not None and pdb.set_trace.__module__ != "pdb":
        pdb.set_trace = lambda **_: pdb.Pdb().set_trace(sys._getframe(1))  # type: ignore[attr-defined]


def _adopt_orphans() -> None:
    """Be the parent of each process whose own has ended, so that it is found. Linux alone."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _forget_processes() -> None:
    """Forget the parent's child processes, as multiprocessing does in its own: they are not to be joined here."""
    multiprocessing.process._children = set()  # type: ignore[attr-defined]
    multiprocessing.util._run_after_forkers()  # type: ignore[attr-defined]


def _limit_memory(memory: int) -> None:
    """Limit the process's data; not its address space, of which CUDA reserves more than there is memory."""
    if sys.platform != "linux":
        return  # other systems do not enforce it
    import resource

    used = next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmData:"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used * 1024 + memory
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
