"""The program of a host process and its workers: one arm's side of a comparison, run by the arm's own Python.

A *host* imports torch and what training needs, trains nothing, and forks a *worker* for each generation: a restart
takes hundredths of a second instead of the seconds of an import. Where fork is missing the host is its only worker, and
a restart is a new host. Host and workers answer requests over connections of their own (`mnist_loop.support.wire`).

The package ``mnist_loop`` is the arm's (its loop, model, data, engines); ``mnist_loop.bench`` and
``mnist_loop.support`` are those of the comparison, so that the same code measures two checkouts.
"""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

Request = dict[str, Any]
Answer = dict[str, Any]

PADDINGS, PADDING = 16, range(64, 300_000)  # blocks, and bytes of each: the largest exceeds any tensor of the lesson
LOSSES = 10  # steps whose losses must be the same in each arm
CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"  # Apple's libraries do not work after a fork


def take_packages(package: Path, ours: Path) -> None:
    """Import ``mnist_loop`` from ``package``, but its subpackages ``bench`` and ``support`` from ``ours``."""
    rooms = (("mnist_loop.support", ours / "support"), ("mnist_loop.bench", ours / "bench"))
    for name, folder in (("mnist_loop", package), *rooms):
        file = folder / "__init__.py"
        spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(folder)])
        if spec is None or spec.loader is None:
            raise ImportError(f"{file} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


class ForkServer:
    """Imports what is slow to import once, and forks workers."""

    def __init__(self, connection: Connection) -> None:
        import torch

        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        torch.set_num_threads(1)  # the child of a fork lacks the other threads, and would wait for them
        parameter = torch.nn.Parameter(torch.zeros(1))
        torch.optim.SGD([parameter], lr=1.0).zero_grad()  # the first optimizer of a process imports many modules
        self.worker = ArmWorker(connection)

    def handle(self, request: Request) -> Answer:
        """Fork a worker; where there is no fork, answer as one."""
        from mnist_loop.support.wire import answer_requests

        if request["do"] != "fork":
            return self.worker.handle(request)
        if not CAN_FORK:
            return {"forked": False}
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                random.seed()  # otherwise all workers of a host draw the same numbers
                self.worker.connection = connection = Client(request["address"])
                answer_requests(connection, self.worker.handle)
            finally:
                os._exit(0)  # without the host's exit handlers
        return {"forked": True, "process": process}


class ArmWorker:
    """Does one arm's work in one generation."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.data: Any = None
        self.stocked: dict[tuple[str, int, str, str], Any] = {}
        self.compile_s: dict[tuple[str, int, str, str], float] = {}
        self.workload: Any = None
        self.slowdown = 0.0
        self.padding: list[bytearray] = []

    def handle(self, request: Request) -> Answer:
        """Do what is asked for; return what came out."""
        do: dict[str, Callable[[Request], Answer]] = {
            "facts": self.facts,
            "load": self.load,
            "stock": self.stock,
            "prepare": self.prepare,
            "losses": self.losses,
            "expected": self.expected,
            "begin": self.begin,
            "ruler": self.ruler,
        }
        return do[request["do"]](request)

    def facts(self, request: Request) -> Answer:
        """Return machine, software and state. This starts threads: a host that still forks must not be asked."""
        from mnist_loop.bench import machine
        from mnist_loop.support.device import resolve_device

        return {
            "machine": {"name": machine.label(str(resolve_device(request["device"]))), **machine.identity()},
            "software": machine.software(),
            "state": machine.current_state(),
        }

    def load(self, request: Request) -> Answer:
        """Load the data; a host loads them for all its workers."""
        from mnist_loop.data import load_data

        self.data = load_data(request["data"], download=request["download"])
        return {"data": self.data.name, "note": self.data.note, "root": str(self.data.root)}

    def stock(self, request: Request) -> Answer:
        """Make the batches in the CPU's memory, and compile; a host does this for all its workers."""
        key = request["part"], request["batch_size"], request["dtype"], request["engine"]
        if request["device"] == "cpu" and key not in self.stocked:
            self.stocked[key] = workload = self._make(request)
            started = time.perf_counter()
            if workload.at_once > 1:
                workload.work_on(workload.batches(1 + workload.at_once))()
                self.compile_s[key] = time.perf_counter() - started
            else:
                workload.batches(1)
        return {}

    def prepare(self, request: Request) -> Answer:
        """Make the workload; return the seconds of its first step."""
        import torch

        if request["cpus"] and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, request["cpus"])
        torch.set_num_threads(request["threads"])
        key = request["part"], request["batch_size"], request["dtype"], request["engine"]
        self.workload = (self.stocked.get(key) if request["device"] == "cpu" else None) or self._make(request)
        self.slowdown = request["slowdown"]
        batches = self.workload.batches(1)
        started = time.perf_counter()
        self._number(self.workload.work_on(batches)())
        self.wait()
        return {
            "first_step_s": time.perf_counter() - started + self.compile_s.get(key, 0.0),
            "device": str(self.workload.device),
            "threads": torch.get_num_threads(),
            "most_steps": self.workload.most_steps,
            "at_once": self.workload.at_once,
        }

    def _make(self, request: Request) -> Any:
        import torch

        from mnist_loop.bench import workloads
        from mnist_loop.support.device import resolve_device

        workloads.check_batch_size(request["batch_size"], self.data, request["part"])
        kinds = {kind.part: kind for kind in workloads.KINDS}
        device, dtype = resolve_device(request["device"]), getattr(torch, request["dtype"])
        return kinds[request["part"]](self.data, request["batch_size"], device, dtype, request["engine"])

    def losses(self, _: Request) -> Answer:
        """Return the mean loss after 1, 2, ... steps, the relative tolerance of each, and that after many steps."""
        steps = min(LOSSES, self.workload.most_steps)
        found = [self._number(self.workload.prepare(count)()) for count in range(1, steps + 1)]
        tolerance = self.workload.tolerance
        return {
            "losses": found,
            "tolerance": tolerance(steps),
            "tolerance_of_many": tolerance(self.workload.most_steps),
        }

    def expected(self, request: Request) -> Answer:
        """Return what a training of ``steps`` steps must compute, found in float64 or by other means."""
        return {"expected": self._number(self.workload.expected(request["steps"]))}

    def begin(self, request: Request) -> Answer:
        """Train from a fresh state, block by block: each "go" trains ``steps`` steps, "end" ends the training.

        The training has at most ``most`` steps, its ``lead_in`` first steps included. There is an answer after the
        lead-in, after each block, and at the end, with what was computed.
        """
        # The memory addresses of tensors affect speed. Random padding changes them for each training, so that their
        # effect is noise and not a difference between arms (Curtsinger and Berger, "Stabilizer", 2013).
        self.padding = [bytearray(size) for size in random.choices(PADDING, k=PADDINGS)]  # noqa: S311  # no secret
        turns = Turns(self, request["lead_in"], request["steps"], request["most"])
        return {"found": self._number(self.workload.work_on(iter(turns))())}

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        from mnist_loop.support.device import synchronise

        synchronise(self.workload.device)

    def ruler(self, _: Request) -> Answer:
        """Measure the ruler."""
        import dataclasses

        from mnist_loop.bench import ruler

        return dataclasses.asdict(ruler.measure_ruler(self.workload.device))

    @staticmethod
    def _number(found: Any) -> float:
        """Return what a block computed, a loss or a batch of images and labels, as one number."""
        return found if isinstance(found, float) else float(sum(tensor.double().sum().item() for tensor in found))


class Turns:
    """The batches of a training that pauses between blocks.

    After a block the training loop waits for its next batch until the comparison sends "go".
    """

    def __init__(self, worker: ArmWorker, lead_in: int, steps: int, most: int) -> None:
        self.worker, self.lead_in, self.steps = worker, lead_in, steps
        self.batches = worker.workload.batches(most)

    def __iter__(self) -> Iterator[Any]:
        from mnist_loop.support.wire import receive_message, send_message

        yield from islice(self.batches, self.lead_in)
        self.worker.wait()
        send_message(self.worker.connection, {"ready": True})
        while receive_message(self.worker.connection)["do"] == "go":
            yield from self._block()

    def _block(self) -> Iterator[Any]:
        """Yield the batches of a block, and send its times.

        ``seconds`` is the time of the block. ``undisturbed`` is the number of steps times the lower quartile of their
        times, on the CPU; on other devices, where single steps cannot be timed, it is ``seconds``. Three quarters of
        the steps take the quartile or longer, so it is at most 4/3 of ``seconds``.
        """
        from mnist_loop.support.wire import send_message

        slowdown = self.worker.slowdown
        times = [time.perf_counter()]
        for batch in islice(self.batches, self.steps):
            yield batch
            if slowdown:
                _spin(slowdown * (time.perf_counter() - times[-1]))
            times.append(time.perf_counter())
        self.worker.wait()
        times[-1] = time.perf_counter()
        seconds = undisturbed = times[-1] - times[0]
        if self.worker.workload.device.type == "cpu":
            at_once = self.worker.workload.at_once  # these steps run in one call
            calls = [end - start for start, end in pairwise(times[::at_once])]
            undisturbed = len(calls) * lower_quartile(calls)
        send_message(self.worker.connection, {"seconds": seconds, "undisturbed": undisturbed})


def lower_quartile(values: list[float]) -> float:
    """Return the value that a quarter of ``values`` does not exceed."""
    return sorted(values)[(len(values) - 1) // 4]


def _spin(seconds: float) -> None:
    """Wait busily: a sleep is rounded up to the next tick of the system's clock."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _stdin() -> int:
    """Return another file descriptor of what was the standard input, which is empty from now on."""
    moved, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return moved


def main(address: str, package: str, ours: str) -> None:
    """Be the host of an arm until the comparison closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the comparison's to answer
    if CAN_FORK:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no worker stays behind as a zombie
    take_packages(Path(package), Path(ours))
    from mnist_loop.support.life import die_with_parent
    from mnist_loop.support.wire import answer_requests, failure, send_message

    die_with_parent(_stdin())  # and so do the workers, which are of its process group
    connection = Client(address)
    try:
        server = ForkServer(connection)
    except Exception as error:  # noqa: BLE001  # the comparison reports it, whatever is wrong with the environment
        send_message(connection, failure(error))
        return
    send_message(connection, {"ready": True})
    answer_requests(connection, server.handle)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file: its neighbours are no top-level modules
    main(*sys.argv[1:])
