"""Child processes as the parent sees them: started with pipes, listened to, and killed with all that they started."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import multiprocessing.spawn
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable
from dataclasses import astuple
from pathlib import Path
from typing import NoReturn

import psutil
import torch

from mnist_loop.support.leftovers import remove
from mnist_loop.verification.sandbox import child, scratch
from mnist_loop.verification.sandbox.child import HEADER, LOST, Ends, Setup
from mnist_loop.verification.sandbox.scratch import Scratch

OUTPUT_KEPT = 2**16  # bytes: the last ones of what the child wrote
SLICE_S = 0.05  # how often a child is looked after that may have died with its pipes held open by others
STACK_S = 1.0  # the longest wait for the child's stack
DRAIN = 2**24  # bytes: the most that is read at once of what a child writes without an end
VMSTAT = Path("/proc/vmstat")
BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from mnist_loop.verification.sandbox.processes import spawned; spawned(*json.loads(sys.argv[2]))"
)
# Processes that libraries start once and keep, by what is in their command lines.
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "torch_shm_manager", "compile_worker")

loading_main = False  # whether this is a spawned child that loads the main module of its parent
_starting = threading.Lock()  # a fork must not come between another child's pipes and their registration
_children: weakref.WeakSet[Child] = weakref.WeakSet()


class Gone(Exception):
    """The child has ended, or has closed the pipe of its replies."""


class Late(Exception):
    """The deadline has passed."""


class Child:
    """A child process, and the parent's ends of the pipes to it.

    Attributes:
        output: the last bytes of what it wrote to stdout and stderr.
        stacks: what faulthandler wrote in it.
        status: exit code, or minus the signal that killed it; None while it lives, or if another has reaped it.
    """

    def __init__(self, start: Callable[[Ends, Scratch], int]) -> None:
        self.output = bytearray()
        self.stacks = bytearray()
        self.status: int | None = None
        self.reaped = False
        self._end: weakref.finalize[..., Child] | None = None
        self._owner = os.getpid()
        self._ooms = _oom_kills()
        self._inbox = bytearray()
        self._outbox = bytearray()
        with _starting:
            files: list[int] = []
            self.scratch, lock = scratch.make()
            try:
                for _ in range(5):
                    files += _high_pipe()
                requests, self._requests, self._replies, replies, self._output, output, self._stacks, stacks = files[:8]
                life, self._life = files[8:]
                theirs = (requests, replies, output, stacks, life)
                self._files = {lock, *files}.difference(theirs)
                _children.add(self)
                self.pid = start(Ends(*theirs), self.scratch)
            except BaseException:
                _children.discard(self)
                for file in (lock, *files):
                    os.close(file)
                remove(self.scratch.folder)
                raise
            for file in theirs:
                os.close(file)
        for file in self._files:
            os.set_blocking(file, False)
        self._end = weakref.finalize(self, _abandon, self.pid, self._owner, self._files, self.scratch)

    def send(self, data: bytes) -> None:
        """Send a message: as much of it as the pipe takes now, and the rest when a message is received."""
        self._outbox += len(data).to_bytes(HEADER, "big") + data
        self._write()

    def receive(self, deadline: float) -> bytes:
        """Return the child's next message.

        Args:
            deadline: when to give up, on the monotonic clock.

        Raises:
            Gone: no message can come any more.
            Late: the deadline has passed.
        """
        heard = True  # whether the pipe of the replies is open
        while (message := self._next_message()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late
            reading, writing = (self._replies,) if heard else (), self._requests if self._outbox else None
            ready = self._wait(min(left, SLICE_S), reading=reading, writing=writing)
            if self._requests in ready:
                self._write()
            if self._output in ready:
                self._read_output()
            if self._replies in ready:
                heard = _read(self._replies, self._inbox) is not None
            if (not heard or not ready) and self.poll():
                while _read(self._replies, self._inbox):
                    pass
                message = self._next_message()
                if message is None:
                    raise Gone
                break
        self.drain()
        return message

    def stack(self) -> str:
        """Ask the child where its main thread is; return what comes of it within a second."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, child.stack_signal())
        deadline = time.monotonic() + STACK_S
        own = f'File "{child.__file__}"'.encode()  # the frames below are not the user's
        while own not in self.stacks and b"\n  ...\n" not in self.stacks and time.monotonic() < deadline:
            ready = self._wait(SLICE_S, reading=(self._stacks,))
            if self._output in ready:
                self._read_output()
            if self._stacks in ready and _read(self._stacks, self.stacks) is None:
                break
        return self.stacks.decode(errors="replace")

    def poll(self) -> bool:
        """Return whether the child has ended; reap it if so."""
        return self.reaped or self._reap(os.WNOHANG)

    def kill(self) -> None:
        """End the child and all its processes, read what they wrote, and close the pipes. May be called again."""
        if (
            self._end is None or self._end.detach() is None or self._owner != os.getpid()
        ):  # the latter: a copy, in a forked process
            return
        family = {process.pid: process for process in (*self.family(), *self.working_in_scratch())}.values()
        _kill(self.pid, reaped=self.reaped)
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if not self.reaped:
            self._reap(0)
        wait_for_end([*family], STACK_S)
        self.drain()
        while _read(self._stacks, self.stacks):
            pass
        _children.discard(self)
        remove(self.scratch.folder)
        _close(self._files)

    def family(self) -> list[psutil.Process]:
        """Return the processes that the child has started and that have not ended: descendants, and its group."""
        found: dict[int, psutil.Process] = {}
        with contextlib.suppress(psutil.Error):
            found = {process.pid: process for process in psutil.Process(self.pid).children(recursive=True)}
        for pid in self.group():
            with contextlib.suppress(psutil.Error):
                found.setdefault(pid, psutil.Process(pid))
        return [process for process in found.values() if _is_running(process)]

    def working_in_scratch(self) -> list[psutil.Process]:
        """Return the processes in the scratch folder: those that left the group of a child that has ended, too."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                folder = process.cwd()
                if f"{folder}/".startswith(f"{self.scratch.folder}/") and process.pid not in (self.pid, os.getpid()):
                    found.append(process)
        return found

    def group(self) -> list[int]:
        """Return the other processes of the child's group."""
        members = []
        for pid in psutil.pids():
            with contextlib.suppress(OSError):
                if os.getpgid(pid) == self.pid != pid:
                    members.append(pid)
        return members

    def out_of_memory(self) -> bool:
        """Return whether the system has killed a process for want of memory since this child began."""
        return _oom_kills() > self._ooms

    def drain(self) -> None:
        """Read what the child has written so far."""
        read = 0
        while read < DRAIN and (size := self._read_output()):
            read += size

    def _next_message(self) -> bytes | None:
        if len(self._inbox) < HEADER:
            return None
        end = HEADER + int.from_bytes(self._inbox[:HEADER], "big")
        if len(self._inbox) < end:
            return None
        message = bytes(self._inbox[HEADER:end])
        del self._inbox[:end]
        return message

    def _wait(self, seconds: float, *, reading: Iterable[int], writing: int | None = None) -> set[int]:
        """Return which of the files, and of the output, are ready or closed."""
        poll = select.poll()
        for file in reading:
            poll.register(file, select.POLLIN)
        if self._output in self._files:
            poll.register(self._output, select.POLLIN)
        if writing is not None:
            poll.register(writing, select.POLLOUT)
        return {file for file, _ in poll.poll(seconds * 1000)}

    def _write(self) -> None:
        try:
            del self._outbox[: os.write(self._requests, self._outbox)]
        except BlockingIOError:  # the pipe is full
            return
        except BrokenPipeError:  # nobody will read it
            self._outbox.clear()

    def _read_output(self) -> int:
        """Read a part of the output, keep the last of it, and return its size; close the pipe at its end."""
        if self._output not in self._files:
            return 0
        size = _read(self._output, self.output)
        if size is None:
            self._files.discard(self._output)
            os.close(self._output)
        del self.output[:-OUTPUT_KEPT]
        return size or 0

    def _reap(self, options: int) -> bool:
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:  # the program ignores SIGCHLD, or waits for any child
            self.reaped = True
        else:
            if pid:
                self.reaped, self.status = True, os.waitstatus_to_exitcode(status)
        return self.reaped


def wait_for_end(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until the processes have ended; return those that have not."""
    deadline = time.monotonic() + seconds
    while (processes := [p for p in processes if _is_running(p)]) and time.monotonic() < deadline:
        time.sleep(SLICE_S / 10)
    return processes


def fork(run: Callable[[Ends], NoReturn], ends: Ends) -> int:
    """Fork from a thread of its own; return the pid.

    libgomp remembers in each thread the helpers that it started from there, waits for them after a fork, in which they
    are gone, and hangs. A new thread has none: the child may use as many threads as it likes.
    """
    outcome: list[int | BaseException] = []
    done = threading.Event()

    def target() -> None:
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns of any fork beside threads, of which torch always has some. The child keeps to what
                # is known to work then: it takes no lock of the parent's and gets its own streams.
                warnings.filterwarnings("ignore", r".*multi-threaded, use of fork", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                try:
                    _let_go()
                    run(ends)
                finally:
                    os._exit(LOST)
            outcome.append(pid)
        except BaseException as error:  # noqa: BLE001  # raised again by the thread that waits
            outcome.append(error)
        finally:
            done.set()

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or any object
            stream.flush()  # or the child would have a copy to flush
    thread = threading.Thread(target=target, name="MainThread")  # which it is, in the child
    thread.start()
    interrupted = None
    while not done.is_set():
        try:
            done.wait()
        except KeyboardInterrupt as error:
            interrupted = error
    thread.join()
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    if interrupted is not None:
        _kill(result, reaped=False)
        os.waitpid(result, 0)
        raise interrupted
    return result


def spawn(ends: Ends, memory: int | None, place: Scratch) -> int:
    """Start a new interpreter, which takes the setup as its first message; return the pid."""
    path = [entry or str(Path.cwd()) for entry in sys.path]
    arguments = [json.dumps(path), json.dumps([astuple(ends), memory, astuple(place)])]
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    process = subprocess.Popen(  # noqa: S603  # this interpreter
        [sys.executable, *flags, "-c", BOOTSTRAP, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=ends.output,
        stderr=ends.output,
        pass_fds=astuple(ends),
        start_new_session=True,
    )
    process.returncode = 0  # it is not Popen that waits for it
    return process.pid


def spawned(ends: list[int], memory: int | None, place: list[str]) -> NoReturn:
    """Serve in the interpreter that `spawn` started. The first message holds what is needed for the setup."""
    pipes = Ends(*ends)

    def load_setup() -> Setup:
        global loading_main
        data = child.receive(pipes.requests)
        if data is None:
            raise EOFError("the parent is gone")
        sys.argv, main, setup = pickle.loads(data)  # noqa: S301  # from the parent
        loading_main = True
        multiprocessing.spawn.prepare(main)
        loading_main = False
        loaded: Setup = pickle.loads(setup)  # noqa: S301  # from the parent
        return loaded

    child.serve(pipes, memory, Scratch(*place), load_setup)


def spawn_message(setup: Setup) -> bytes:
    """Return the first message to a child that `spawn` started. Raises whatever pickling raises."""
    pickled = pickle.dumps(setup)
    return pickle.dumps((sys.argv, _main_module() if b"__main__" in pickled else {}, pickled))


def _main_module() -> dict[str, str]:
    """Return how the main module is loaded again, in the words of `multiprocessing.spawn.prepare`."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return {"init_main_from_name": spec.name}
    return {} if file is None else {"init_main_from_path": str(Path(file).absolute())}


def _let_go() -> None:
    """Let go, in a forked child, of the parent's ends of all pipes, its own too."""
    global _starting
    _starting = threading.Lock()
    for other in list(_children):
        if other._end is not None:
            other._end.detach()
        _close(other._files)
    _children.clear()


def _abandon(pid: int, owner: int, files: set[int], place: Scratch) -> None:
    """End a child that nobody refers to any more."""
    if owner == os.getpid():
        _kill(pid, reaped=False)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        remove(place.folder)
        _close(files)


def _kill(pid: int, *, reaped: bool) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # no group yet, or none left
        os.killpg(pid, signal.SIGKILL)
    if not reaped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _close(files: set[int]) -> None:
    while files:
        os.close(files.pop())


def _read(file: int, buffer: bytearray) -> int | None:
    """Add what there is to the buffer; return its size, 0 where there is nothing yet, None at the end of the pipe."""
    try:
        part = os.read(file, 2**20)
    except BlockingIOError:
        return 0
    buffer += part
    return len(part) or None


def _high_pipe() -> tuple[int, int]:
    """Return a pipe whose file descriptors are out of the way of those that programs close by their numbers."""
    low = os.pipe()
    try:
        floor = min(900, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        read = fcntl.fcntl(low[0], fcntl.F_DUPFD_CLOEXEC, floor)
        try:
            return read, fcntl.fcntl(low[1], fcntl.F_DUPFD_CLOEXEC, floor)
        except OSError:
            os.close(read)
            raise
    finally:
        for file in low:
            os.close(file)


def _oom_kills() -> int:
    """Return how many processes the system has killed for want of memory since it started; 0 where it does not tell."""
    try:
        lines = VMSTAT.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def is_helper(process: psutil.Process) -> bool:
    """Return whether a library started the process, to keep it."""
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return any(helper in command for helper in HELPERS)


def command_line(process: psutil.Process) -> str:
    """Return how the process was started, shortened."""
    try:
        return " ".join(process.cmdline())[:200] or process.name()
    except psutil.Error:
        return "ended"


def fork_works() -> bool:
    """Return whether a fork of this process can compute a gradient.

    On a machine without CUDA it is tried once. On another it can change: with the first gradient that this process
    computes there.
    """
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # no child's end would be told, and nothing is known
        return False
    return _fork_computes() if torch.cuda.is_available() else _a_fork_computed()


def _fork_computes() -> bool:
    """Try it."""

    def compute(_: Ends) -> NoReturn:
        code = 1
        try:
            torch.set_num_threads(1)
            torch.ones(1, requires_grad=True).sum().backward()
            code = 0
        except RuntimeError:  # "Unable to handle autograd's threading in combination with fork-based multiprocessing"
            pass
        finally:
            os._exit(code)

    with _starting:
        pid = fork(compute, Ends(-1, -1, -1, -1, -1))
    try:
        return os.waitpid(pid, 0)[1] == 0
    except ChildProcessError:  # the program waits for any child: nothing is known, and a new interpreter always works
        return False


_a_fork_computed = functools.cache(_fork_computes)
