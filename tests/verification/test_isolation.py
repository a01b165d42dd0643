"""Isolation: whatever a loop does to its process, the parent gets a reply or a clear word, and nothing is left over."""

import builtins
import ctypes
import faulthandler
import gc
import os
import pdb
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from dataclasses import dataclass

import numpy as np
import psutil
import pytest
import torch

from mnist_loop.errors import DataError, UserError
from mnist_loop.verification.sandbox import child, processes
from mnist_loop.verification.sandbox.isolation import (
    Ended,
    Failed,
    InProcess,
    Sandbox,
    can_isolate,
    start_method,
)
from tests.programs import children

LONG_S = 100  # for what returns: a loaded machine must not make a test fail
SHORT_S = 0.3  # for what does not
MIB = 2**20
SLEEP = [shutil.which("sleep") or "/bin/sleep", "1000"]
SLEEP_COMMAND = " ".join(SLEEP)
say = print  # what loops do

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def open_files():
    """Return the numbers of this process's file descriptors."""
    return set(os.listdir("/dev/fd"))  # noqa: PTH208  # the names


@pytest.fixture(autouse=True)
def nothing_left():
    """No process and no file descriptor outlives a test; none is waited for either."""
    before = children(), len(open_files())
    yield
    assert children() <= before[0]
    assert len(open_files()) == before[1]


def is_alive(pid):
    """Return whether there is such a process, and it is more than a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def worker(loop, timeout=LONG_S, **options):
    """A worker whose answer to any request is what ``loop`` returns."""
    return Sandbox(lambda: lambda _: loop(), timeout=timeout, start_method="fork", **options)


def outcome(loop, **options):
    """Run ``loop`` in a worker that must not survive it; return how it ended. The worker must serve again then."""
    runs = iter([True])
    with Sandbox(lambda: lambda first: loop() if first else "again", timeout=LONG_S, start_method="fork") as runner:
        for name, value in options.items():
            setattr(runner, f"_{name}", value)
        with pytest.raises(Ended) as ended:
            runner.ask(next(runs))
        runner._timeout = LONG_S
        assert runner.ask(False) == "again"
    assert str(ended.value) == ended.value.detail
    return ended.value


def raise_(error):
    raise error


class Own(BaseException):
    """An exception that `except Exception` lets pass."""


def read_address_zero():
    ctypes.string_at(0)


def close_all_files():
    os.closerange(0, 2**16)


def break_threading():
    threading._active = None


def abort_as_cpp_does():
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def exit_within_a_thread():
    thread = threading.Thread(target=os._exit, args=(5,))
    thread.start()
    thread.join()


def patched_exit():
    os._exit = signal.alarm = os.write = os.getpid = lambda *_: 0
    sys.exit(3)


def overflow_the_stack():
    libc = ctypes.CDLL(None)
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    data = ctypes.create_string_buffer(2)
    sys.setrecursionlimit(10**9)

    def deeper(*_):
        libc.qsort(data, 2, 1, function)
        return 0

    function = compare(deeper)
    deeper()


ENDS = {
    "sys.exit": (lambda: sys.exit(3), "exit", "called exit(3)"),
    "sys.exit without a code": (lambda: sys.exit(), "exit", "called exit()"),
    "sys.exit with words": (lambda: sys.exit("no data"), "exit", "called exit('no data')"),
    "os._exit": (lambda: os._exit(0), "exit", "called os._exit(0)"),
    "os._exit with a code": (lambda: os._exit(7), "exit", "called os._exit(7)"),
    "os._exit in a thread": (exit_within_a_thread, "exit", "called os._exit(5)"),
    "sys.exit with os patched": (patched_exit, "exit", "called exit(3)"),
    "KeyboardInterrupt": (
        lambda: raise_(KeyboardInterrupt()),
        "exit",
        "raised KeyboardInterrupt, which ends a program",
    ),
    "SIGINT": (lambda: signal.raise_signal(signal.SIGINT), "exit", "raised KeyboardInterrupt, which ends a program"),
    "BaseException": (lambda: raise_(Own()), "exit", "raised Own, which ends a program"),
    "os.abort": (os.abort, "crash", "was killed by SIGABRT (aborted)"),
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), "crash", "was killed by SIGKILL (killed)"),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), "crash", "was killed by SIGTERM (terminated)"),
    "a null pointer": (read_address_zero, "crash", "was killed by SIGSEGV (segmentation fault)"),
    "files closed": (close_all_files, "pipe", "closed the file descriptors that its replies go through"),
    "threading broken": (break_threading, "pipe", "broke a part of Python that its replies need"),
    "bad_alloc": (abort_as_cpp_does, "memory", "needed more than the 2 GiB of memory that it may use"),
    "torch has none": (lambda: torch.empty(2**45), "memory", "needed more than the 2 GiB of memory that it may use"),
    "MemoryError": (lambda: bytearray(5 * 2**30), "memory", "needed more than the 2 GiB of memory that it may use"),
}


@pytest.mark.parametrize("case", ENDS)
def test_each_end_is_told(case):
    """What ends the child is named, and the next request gets a new child."""
    loop, kind, detail = ENDS[case]
    ended = outcome(loop)
    assert (ended.kind, ended.detail, ended.stage) == (kind, detail, "answer")


def test_a_stack_overflow_is_no_end_of_the_parent():
    """Recursion through C ends the child by a signal, or in Python's own error where it counts such calls."""
    with worker(overflow_the_stack) as runner, pytest.raises((Ended, Failed)) as error:
        runner.ask(None)
    assert isinstance(error.value, Failed) or error.value.kind in ("crash", "memory")


def take_a_lock_twice():
    lock = threading.Lock()
    with lock, lock:
        pass


def ignore_signals():
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if number not in (32, 33):  # glibc's own
            signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1)


def block_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(1000)


def hold_the_interpreter():
    ctypes.PyDLL(None).sleep(1000)


def wait_for_a_thread():
    thread = threading.Thread(target=time.sleep, args=(1000,))
    thread.start()
    thread.join()


def with_grandchildren():
    subprocess.Popen(SLEEP)
    subprocess.Popen(SLEEP, start_new_session=True)
    if os.fork() == 0:
        os.fork()
    time.sleep(1000)


def with_a_group():
    subprocess.Popen(SLEEP)
    if os.fork() == 0:
        os.fork()
    time.sleep(1000)


def replaced_by_another_program():
    os.execv(SLEEP[0], SLEEP)  # noqa: S606  # as a loop may


def loop_for_ever():
    while True:
        pass


HANGS = {
    "loop": (loop_for_ever, "loop_for_ever"),
    "sleep": (lambda: time.sleep(1000), "<lambda>"),
    "deadlock": (take_a_lock_twice, "take_a_lock_twice"),
    "signals ignored": (ignore_signals, None),
    "signals blocked": (block_signals, None),
    "interpreter held": (hold_the_interpreter, "hold_the_interpreter"),
    "thread joined": (wait_for_a_thread, "wait_for_a_thread"),
    "grandchildren": (with_grandchildren, "with_grandchildren"),
    "stopped": (lambda: os.kill(os.getpid(), signal.SIGSTOP), None),
    "another program": (replaced_by_another_program, None),
}


@pytest.mark.parametrize("case", HANGS)
def test_each_hang_is_ended(case):
    """The child and its processes are killed when the time is up; where it was is told where it can be."""
    loop, where = HANGS[case]
    ended = outcome(loop, timeout=SHORT_S)
    assert (ended.kind, ended.detail) == ("hang", "did not return within 0.3 s")
    if where is not None:
        assert f"in {where}\n" in ended.traceback
        assert child.__file__ not in ended.traceback
    else:
        assert ended.traceback is None


def patch_everything():
    def broken(*_, **__):
        raise AssertionError("patched")

    pickle.dumps = pickle.loads = builtins.print = time.time = time.monotonic = os.write = os.read = broken
    os._exit = os.getpid = os.waitid = sys.exit = threading.enumerate = signal.setitimer = broken
    torch.set_num_threads = torch.ones = torch.Tensor.backward = broken
    faulthandler.register = broken


def fill_the_pipes():
    for _ in range(64):
        os.write(1, b"x" * MIB)
        say("y" * MIB, file=sys.stderr)


def change_the_surroundings():
    os.chdir("/")
    os.environ.clear()
    sys.path.clear()
    os.umask(0o777)


def replace_stdout():
    sys.stdout = sys.stderr = object()


def delete_stdout():
    del sys.stdout, sys.stderr


def close_stdout():
    sys.stdout.close()
    sys.stderr.close()
    sys.stdin.close()


def close_low_files():
    os.closerange(0, 100)
    os.open(os.devnull, os.O_RDWR)


def leave_handlers():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, lambda *_: os._exit(1))
    signal.setitimer(signal.ITIMER_REAL, 0.1)


SURVIVED = [
    patch_everything,
    fill_the_pipes,
    change_the_surroundings,
    replace_stdout,
    delete_stdout,
    close_stdout,
    close_low_files,
    leave_handlers,
]


@pytest.mark.parametrize("loop", SURVIVED, ids=lambda loop: loop.__name__)
def test_what_does_no_harm_is_answered(loop):
    """The reply comes, and the same child answers again."""
    sleep, getpid = time.sleep, os.getpid

    def answer(number):
        loop() if number == 1 else sleep(0.2)  # for an alarm that was left
        return number, getpid()

    with Sandbox(lambda: answer, timeout=LONG_S, start_method="fork") as runner:
        (one, first), (two, second) = runner.ask(1), runner.ask(2)
        assert (one, two) == (1, 2)
        assert first == second
        assert runner.leftovers == []


def test_a_request_that_follows_is_begun_ahead(tmp_path):
    """The child answers it while nobody waits for it, and its reply comes when it is asked for, whatever it is."""

    def answer(request):
        (tmp_path / request["name"]).touch()
        return os.getpid(), request

    first, second = ({"name": name, "much": np.ones(10**6)} for name in ("first", "second"))  # more than a pipe holds
    third = {"name": "third"}
    with Sandbox(lambda: answer, timeout=LONG_S, start_method="fork") as runner:
        pid, _ = runner.ask(first, second)
        assert runner.ask(second, third)[0] == pid
        deadline = time.monotonic() + LONG_S
        while not (tmp_path / "third").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        came = runner.ask(third)
    assert came[0] == pid
    assert came[1]["name"] == "third"


def test_an_end_in_a_request_that_was_begun_ahead_is_its_own():
    """The reply before it comes as ever, and another child answers what follows."""

    def answer(code):
        return os._exit(code) if code else "well"

    with Sandbox(lambda: answer, timeout=LONG_S, start_method="fork") as runner:
        assert runner.ask(0, 3) == "well"
        with pytest.raises(Ended, match=r"called os._exit\(3\)"):
            runner.ask(3, 0)
        assert runner.ask(0, 3) == "well"
        assert runner.ask(0) == "well"  # not 3, as was said


def test_a_loop_that_forks_replies_once():
    """The copy of the child that returns into the answer ends in silence."""

    def fork():
        return "copy" if os.fork() == 0 else "original"

    with worker(fork) as runner:
        assert [runner.ask(None) for _ in range(5)] == ["original"] * 5


def test_replies_are_plain_objects():
    """Tensors, arrays and data classes come as they are, megabytes of them too, there and back."""
    with Sandbox(lambda: lambda request: request, timeout=LONG_S, start_method="fork") as runner:
        sent = {"tensor": torch.arange(12.0).view(3, 4).T, "array": np.arange(10**6), "case": Plain(2, (1, "x"))}
        sent["double"] = torch.ones(1000, 1000, dtype=torch.float64).requires_grad_()
        came = runner.ask(sent)
    assert torch.equal(came["tensor"], sent["tensor"])
    assert torch.equal(came["double"], sent["double"])
    assert came["double"].requires_grad
    assert np.array_equal(came["array"], sent["array"])
    assert came["case"] == sent["case"]


@dataclass(frozen=True)
class Plain:
    """What a reply may hold."""

    number: int
    more: tuple[int, str]


class RaisesAtPickling:
    """An object whose pickling exits."""

    def __reduce__(self):
        sys.exit(1)


def foreign_object():
    module = type(sys)("of_the_user")
    exec("class Thing: pass", vars(module))  # noqa: S102
    sys.modules["of_the_user"] = module
    return module.Thing()


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (lambda: lambda: 0, r"the reply cannot be pickled \(.*\): reply with plain data"),
        (RaisesAtPickling, r"the reply cannot be pickled \(SystemExit: 1\): reply with plain data"),
        (foreign_object, r"the reply cannot be unpickled \(.*of_the_user is not loaded here\): reply with plain data"),
    ],
    ids=["function", "exit", "foreign"],
)
def test_a_reply_that_cannot_come_over_is_told(reply, sentence):
    """What cannot be pickled, or not be loaded here, is an error in a sentence; the child lives on."""
    replies = {"bad": reply, "good": os.getpid}
    with Sandbox(lambda: lambda which: replies[which](), timeout=LONG_S, start_method="fork") as runner:
        own = runner.ask("good")
        with pytest.raises(Failed, match=sentence):
            runner.ask("bad")
        assert runner.ask("good") == own


def test_a_request_that_cannot_be_pickled_is_told():
    """And the child has not heard of it."""
    with worker(lambda: 1) as runner:
        with pytest.raises(Failed, match=r"the request cannot be pickled \(.*\): ask with plain data"):
            runner.ask(lambda: 0)
        assert runner.ask(None) == 1


class OfTheUser(UserError):
    """A class that the parent may not know."""


@pytest.mark.parametrize("error", [UserError("a sentence"), DataError("a sentence")], ids=["UserError", "DataError"])
@pytest.mark.parametrize("where", ["setup", "answer"])
def test_user_errors_come_through(error, where):
    """With their class and their words, from the setup and from an answer."""
    setup = {"setup": lambda: raise_(error), "answer": lambda: lambda _: raise_(error)}[where]
    with Sandbox(setup, timeout=LONG_S, start_method="fork") as runner:
        for _ in range(2):
            with pytest.raises(UserError, match=r"^a sentence$") as raised:
                runner.ask(None)
            assert type(raised.value) is type(error)


def test_a_user_error_of_a_foreign_class_is_a_user_error():
    """The parent need not know the class."""
    with worker(lambda: raise_(OfTheUser("a sentence"))) as runner:
        with pytest.raises(UserError, match="a sentence") as raised:
            runner.ask(None)
        assert type(raised.value) is UserError


class NoWords(Exception):
    """An exception whose text cannot be had."""

    def __str__(self):
        sys.exit("no words")


@pytest.mark.parametrize("error", [ValueError, NoWords])
@pytest.mark.parametrize("where", ["setup", "answer"])
def test_other_exceptions_come_as_text(error, where):
    """With the traceback from the user's first frame on."""
    setup = {"setup": lambda: raise_(error()), "answer": lambda: lambda _: raise_(error())}[where]
    with Sandbox(setup, timeout=LONG_S, start_method="fork") as runner:
        for _ in range(2):
            with pytest.raises(Failed, match=error.__name__) as raised:
                runner.ask(None)
        assert child.__file__ not in raised.value.traceback


@pytest.mark.parametrize(
    ("setup", "kind"),
    [(sys.exit, "exit"), (lambda: os._exit(0), "exit"), (os.abort, "crash"), (loop_for_ever, "hang")],
    ids=["sys.exit", "os._exit", "os.abort", "hang"],
)
def test_a_setup_that_ends_the_child_is_told(setup, kind):
    """The stage says that it was the setup."""
    with Sandbox(setup, timeout=SHORT_S, start_method="fork") as runner, pytest.raises(Ended) as ended:
        runner.ask(None)
    assert (ended.value.kind, ended.value.stage) == (kind, "setup")


def test_output_is_kept():
    """Output of stdout and stderr, of Python and of C, by the last 64 KiB; also of a child that has ended."""

    def setup():
        say("from the setup")
        return answer

    def answer(request):
        say("an answer", end="")
        say(" and an error", file=sys.stderr)
        os.write(1, b"\xff\n")
        if request == "much":
            say("x" * 10**6)
        if request == "end":
            say("\nlast words", end="\n")
            os._exit(1)

    with Sandbox(setup, timeout=LONG_S, start_method="fork") as runner:
        assert runner.output == ""
        runner.ask(None)
        for words in ("from the setup", "an answer", "and an error", "\ufffd\n"):
            assert words in runner.output
        runner.ask("much")
        assert runner.output == "x" * (2**16 - 1) + "\n"
        with pytest.raises(Ended) as ended:
            runner.ask("end")
        assert ended.value.output.endswith("last words\n")
        assert runner.output == ended.value.output


def stop_in_the_debugger():
    pdb.set_trace()
    return "never"


def stop_at_a_breakpoint():
    breakpoint()
    return "never"


@pytest.mark.parametrize("ask", [input, stop_in_the_debugger, stop_at_a_breakpoint], ids=lambda ask: ask.__name__)
def test_there_is_no_stdin(ask):
    """What asks the user something fails at once, and asks in the output, not on the terminal; pytest's pdb too."""
    with worker(ask) as runner:
        with pytest.raises(Failed, match=r"EOFError|BdbQuit"):
            runner.ask(None)
        assert ask is input or "(Pdb)" in runner.output


def test_the_memory_limit_is_met_inside():
    """Allocations of Python and of torch fail with an error that the answer can catch; the child lives on."""

    def allocate():
        caught = []
        for kept in ([], [1]):
            try:
                while True:
                    kept.append(torch.ones(MIB) if 1 in kept else bytearray(4 * MIB))
            except (MemoryError, RuntimeError) as error:
                caught.append(type(error).__name__)
            kept.clear()
        return caught

    with worker(allocate, memory=256 * MIB) as runner:
        assert runner.ask(None) == ["MemoryError", "RuntimeError"]


def test_without_a_limit_of_memory_there_is_none():
    """None is the system's own limit."""
    resource = pytest.importorskip("resource")
    with worker(lambda: resource.getrlimit(resource.RLIMIT_DATA), memory=None) as runner:
        assert runner.ask(None) == resource.getrlimit(resource.RLIMIT_DATA)


def test_what_the_system_kills_for_memory_is_told(monkeypatch, tmp_path):
    """SIGKILL is for want of memory where the system counts one more process killed for it."""
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 1\noom_kill 4\n")
    monkeypatch.setattr(processes, "VMSTAT", vmstat)

    def killed():
        vmstat.write_text("nr_free_pages 1\noom_kill 5\n")
        os.kill(os.getpid(), signal.SIGKILL)

    with worker(killed) as runner, pytest.raises(Ended) as ended:
        runner.ask(None)
    assert (ended.value.kind, ended.value.detail) == ("memory", "was killed by the system, whose memory had run out")


def test_leftovers_are_told():
    """Threads, daemonic or not, and processes, of the group or not, are told by the request that left them."""

    def answer(request):
        if request == "threads":
            threading.Thread(target=time.sleep, args=(1000,), name="plain").start()
            threading.Thread(target=time.sleep, args=(1000,), name="helper", daemon=True).start()
        if request == "process":
            return subprocess.Popen(SLEEP).pid
        if request == "session":
            return subprocess.Popen(SLEEP, start_new_session=True).pid
        if request == "orphan":
            if os.fork() == 0:
                subprocess.Popen(SLEEP)
                os._exit(0)
            os.wait()
        return None

    with Sandbox(lambda: answer, timeout=LONG_S, start_method="fork") as runner:
        runner.ask("nothing")
        assert runner.leftovers == []
        runner.ask("threads")
        assert sorted(runner.leftovers) == ["thread helper (daemon)", "thread plain"]
        left = []
        for request in ("process", "session"):
            left.append(runner.ask(request))
            assert runner.leftovers == [f"process {left[-1]} ({SLEEP_COMMAND})"]
        runner.ask("orphan")
        (orphan,) = runner.leftovers
        assert orphan.endswith(f" ({SLEEP_COMMAND})")
        runner.ask("nothing")
        assert runner.leftovers == []
    assert not any(is_alive(pid) for pid in [*left, int(orphan.split()[1])])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one CPU
def test_what_has_ended_is_no_leftover():
    """Threads that are about to end, processes that ended, a DataLoader with workers."""

    def train():
        threading.Timer(0.01, int).start()
        subprocess.run([sys.executable, "-c", ""], check=True)
        data = torch.utils.data.TensorDataset(torch.arange(8.0))
        loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12: fork beside threads; torch: few cores
            return sum(batch.sum().item() for (batch,) in loader)

    with worker(train) as runner:
        assert runner.ask(None) == 28
        assert runner.leftovers == []


def test_threads_of_torch_survive_the_fork():
    """After a parallel region in the parent the child computes with one thread, and with two if it asks for them."""

    def compute():
        threads = torch.get_num_threads()
        for number in (1, 2):
            torch.set_num_threads(number)
            weight = torch.randn(256, 256, requires_grad=True)
            (torch.randn(256, 256) @ weight).sum().backward()
            assert (torch.ones(2000, 2000) + 1).sum().item() == 8e6
        return threads

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(3):
            (torch.ones(2000, 2000) + 1).sum()
        with worker(compute, timeout=20) as runner:
            assert runner.ask(None) == 1
    finally:
        torch.set_num_threads(before)


def test_the_child_is_no_copy_of_the_parents_affairs():
    """No handler, no child process, no daemon: what the parent has stays the parent's."""

    def look():
        import multiprocessing

        return (
            signal.getsignal(signal.SIGUSR1),
            len(multiprocessing.active_children()),
            multiprocessing.current_process().daemon,
            os.getpgrp() == os.getpid(),
            threading.current_thread() is threading.main_thread(),
        )

    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with worker(look) as runner:
            assert runner.ask(None) == (signal.SIG_DFL, 0, False, True, True)
    finally:
        signal.signal(signal.SIGUSR1, before)


class Finalised:
    """Garbage in a cycle, which notes the process that finalises it."""

    def __init__(self, note):
        self.cycle, self.note = self, note

    def __del__(self):
        self.note.write_text(str(os.getpid()))


def test_the_parents_garbage_is_not_the_childs(tmp_path):
    """What the parent made is not finalised in the child, nor is what the parent was about to write written there."""
    note = tmp_path / "note"

    def parent():
        sys.stdout.write("not yet written")
        Finalised(note)
        with worker(lambda: gc.collect() and None) as runner:
            runner.ask(None)
            return note.exists(), runner.output

    with worker(lambda: gc.disable() or parent()) as outer:
        assert outer.ask(None) == (False, "")


def test_ctrl_c_ends_the_child():
    """KeyboardInterrupt reaches the caller, and no process is left."""

    def interrupt():
        subprocess.Popen(SLEEP)
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(1000)

    runner = worker(interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.ask(None)


@pytest.mark.parametrize("loop", [loop_for_ever, with_a_group, block_signals], ids=lambda loop: loop.__name__)
def test_a_parent_that_dies_takes_the_child_along(loop, tmp_path, monkeypatch):
    """The kernel kills the group of the child when the parent is killed. Its scratch folder is left behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pids = tmp_path / "pids"

    def answer():
        with pids.open("a") as file:
            say(os.getpid(), file=file)
        loop()

    def parent():
        runner = worker(answer)
        threading.Thread(target=runner.ask, args=(None,), daemon=True).start()
        while not pids.exists() or not pids.read_text().endswith("\n"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    with worker(parent) as outer, pytest.raises(Ended):
        outer.ask(None)
    pid = int(pids.read_text())
    deadline = time.monotonic() + LONG_S
    while (members := living_members(pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in members:
        process.kill()
    assert members == []


def living_members(group):
    """Return the processes of a group that are more than a zombie."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (OSError, psutil.Error):
            continue
    return members


def test_a_worker_that_is_forgotten_ends():
    """Without close, when the last reference goes."""
    runner = worker(os.getpid)
    pid = runner.ask(None)
    del runner
    assert not is_alive(pid)


def test_twenty_workers_leave_no_file_open():
    """Some closed, some ended, some never started, some alive at once."""
    before = len(open_files())
    for number in range(10):
        with worker(os.getpid) as one, worker(lambda: os._exit(1)) as two:
            if number:
                one.ask(None)
                with pytest.raises(Ended):
                    two.ask(None)
        assert len(open_files()) == before


def test_workers_do_not_hold_each_other():
    """A child has no file of another's: the end of one is seen while the other lives. Closing twice is no harm."""
    with worker(lambda: len(open_files())) as first, worker(lambda: len(open_files())) as second:
        files = first.ask(None)
        assert second.ask(None) == files
        first.close()
        first.close()
        assert second.ask(None) == files


def test_threads_may_have_workers():
    """Sandboxes start, answer and end in threads that come and go; one may be asked by several."""
    errors = []
    shared = worker(os.getpid)

    def use():
        try:
            with worker(lambda: 7) as own:
                assert own.ask(None) == 7
                assert isinstance(shared.ask(None), int)
            with pytest.raises(Ended):
                worker(lambda: sys.exit(1)).ask(None)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The thread that started the shared child is gone, the child is not.
    assert isinstance(shared.ask(None), int)
    shared.close()
    assert errors == []


def test_a_parent_with_other_streams_has_workers(monkeypatch):
    """Streams without a file, as in a notebook, or none at all."""
    for stream in (object(), None):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        with worker(lambda: say("seen")) as runner:
            runner.ask(None)
            assert runner.output == "seen\n"


def test_a_parent_without_streams_has_workers():
    """stdin, stdout and stderr are closed, and the pipes do not come in their place."""

    def parent():
        os.closerange(0, 3)
        with worker(lambda: say("seen")) as runner:
            runner.ask(None)
            return runner.output

    with worker(parent) as runner:
        assert runner.ask(None) == "seen\n"


def test_an_end_that_others_were_told_is_told():
    """A program that ignores the ends of its children learns that this one ended."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with worker(lambda: os._exit(3)) as runner, pytest.raises(Ended) as ended:
            runner.ask(None)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert (ended.value.kind, ended.value.detail) == (
        "crash",
        "ended, and how was told to another part of this program",
    )


def spawned_setup():
    """What a new interpreter can import."""
    say("new interpreter")
    return spawned_answer


def spawned_answer(request):
    if request == "hang":
        subprocess.Popen(SLEEP)
        loop_for_ever()
    return request, os.getpid(), torch.get_num_threads()


def test_a_new_interpreter_answers():
    """Where a fork will not do, all is as with one."""
    with Sandbox(spawned_setup, timeout=LONG_S, start_method="spawn") as runner:
        reply, pid, threads = runner.ask(torch.ones(2))
        assert torch.equal(reply, torch.ones(2))
        assert pid == runner._child.pid != os.getpid()
        assert threads == 1
        assert runner.output == "new interpreter\n"
        assert runner.leftovers == []
        runner._timeout = SHORT_S
        with pytest.raises(Ended) as ended:
            runner.ask("hang")
    assert ended.value.kind == "hang"
    assert "in loop_for_ever\n" in ended.value.traceback


@pytest.mark.slow
def test_a_script_may_spawn(tmp_path):
    """The setup may be a function of the main module; a script that starts its work when imported is told so."""
    script = tmp_path / "script.py"
    body = """
        import sys
        from mnist_loop.verification.sandbox.isolation import Sandbox

        def setup():
            return lambda request: (request, sys.argv[1])

        def main():
            with Sandbox(setup, timeout=100, start_method="spawn") as worker:
                print(worker.ask("asked"))
    """
    for last, sentence in (('if __name__ == "__main__":\n    main()', ""), ("main()", "start it under if __name__")):
        script.write_text(f"{textwrap.dedent(body)}\n{last}\n")
        done = subprocess.run([sys.executable, script, "argument"], capture_output=True, text=True)
        assert sentence in done.stderr
        assert done.stdout == ("" if sentence else "('asked', 'argument')\n")


def test_how_a_child_is_started():
    """A fork for the CPU on Linux; a new interpreter for other devices, if the setup can be sent there."""
    assert start_method("cpu") == ("fork" if sys.platform == "linux" and not torch.cuda.is_available() else "spawn")
    assert start_method("cuda:0") == start_method(torch.device("mps")) == "spawn"
    assert can_isolate(spawned_setup, "cpu", start_method("cpu")) is None
    assert can_isolate(spawned_setup, "cuda", "spawn") is None
    reason = can_isolate(lambda: 0, "cuda", "spawn")
    assert reason.startswith("a child process for cuda must be a new interpreter, and the loop cannot be sent there (")
    with pytest.raises(ValueError, match="start_method 'thread' found"):
        Sandbox(spawned_setup, timeout=1, start_method="thread")


def test_a_parent_whose_gradients_forbid_a_fork_spawns(monkeypatch):
    """Whether a fork can compute gradients is tried, not guessed: each time where there is CUDA, as it can change."""

    def refuse(self):
        raise RuntimeError("Unable to handle autograd's threading in combination with fork-based multiprocessing")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert start_method("cpu") == "fork"
    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    assert start_method("cpu") == "spawn"


def test_in_process_is_the_same_without_protection():
    """Replies, errors and ends come as from a worker; threads left are told; setup is called once until closed."""
    calls = []

    def setup():
        calls.append(1)
        return lambda action: action()

    with InProcess(setup) as runner:
        assert runner.ask(lambda: 7) == 7
        with pytest.raises(DataError, match="a sentence"):
            runner.ask(lambda: raise_(DataError("a sentence")))
        with pytest.raises(Failed, match="ValueError: wrong") as failed:
            runner.ask(lambda: raise_(ValueError("wrong")))
        assert isinstance(failed.value.__cause__, ValueError)
        with pytest.raises(Ended) as ended:
            runner.ask(lambda: sys.exit(3))
        assert (ended.value.kind, ended.value.detail) == ("exit", "called exit(3)")
        with pytest.raises(Ended) as ended:
            runner.ask(lambda: raise_(MemoryError()))
        assert (ended.value.kind, ended.value.detail) == ("memory", "needed more memory than there is")
        with pytest.raises(KeyboardInterrupt):
            runner.ask(lambda: raise_(KeyboardInterrupt()))
        stop = threading.Event()
        runner.ask(lambda: threading.Thread(target=stop.wait, name="left").start())
        assert runner.leftovers == ["thread left"]
        stop.set()
        assert calls == [1]
        runner.close()
        assert runner.ask(lambda: 8) == 8
        assert calls == [1, 1]
    for thread in threading.enumerate():
        if thread.name == "left":
            thread.join()
