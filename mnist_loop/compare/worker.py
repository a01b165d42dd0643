"""A worker: one arm's side of a comparison. This file is started by the arm's own Python.

The process that is started is a *host*: it imports torch and what training needs, runs nothing, and forks a *worker*
each time it is told to, so that a restart costs hundredths of a second and not the seconds of an import. Where there
is no fork the host is its only worker, and a restart is a new host. Host and workers each talk with the comparison
over a connection of their own, one JSON object a request and one an answer, until it is closed.

The package ``mnist_loop`` is the arm's (its loop, model, data, engines); ``mnist_loop.bench`` and
``mnist_loop.support`` are those of the comparison, so that the same code measures two checkouts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

Request = dict[str, Any]
Answer = dict[str, Any]

PADDINGS, PADDING = 16, range(64, 300_000)  # pieces and bytes: up to beyond the lesson's largest tensor
LOSSES = 10  # steps whose losses must be the same in each arm
CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"  # Apple's libraries do not survive it


def take_packages(package: Path, ours: Path) -> None:
    """Make ``package`` the ``mnist_loop`` that is imported here, with the rooms that measure from ``ours``."""
    rooms = (("mnist_loop.support", ours / "support"), ("mnist_loop.bench", ours / "bench"))
    for name, folder in (("mnist_loop", package), *rooms):
        file = folder / "__init__.py"
        spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(folder)])
        if spec is None or spec.loader is None:
            raise ImportError(f"{file} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def answer(connection: Connection, handle: Callable[[Request], Answer]) -> None:
    """Answer requests until the other end closes the connection or asks to quit."""
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        if request["do"] == "quit":
            return
        try:
            reply = handle(request)
        except EOFError:  # the other end has gone in the middle of a training
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, the comparison must hear of it
            reply = {"error": _sentence(error), "traceback": traceback.format_exc()}
        try:
            connection.send_bytes(json.dumps(reply).encode())
        except OSError:  # the comparison has gone
            return


class Host:
    """Holds what is slow to import, and forks workers."""

    def __init__(self, connection: Connection) -> None:
        import torch

        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        torch.set_num_threads(1)  # threads that run at a fork are lost in it, and the child would wait for them
        parameter = torch.nn.Parameter(torch.zeros(1))
        torch.optim.SGD([parameter], lr=1.0).zero_grad()  # the first optimizer of a process imports much
        self.worker = Worker(connection)

    def handle(self, request: Request) -> Answer:
        """Fork a worker, or be one."""
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
                random.seed()  # or all workers of a host would draw the same
                self.worker.connection = connection = Client(request["address"])
                answer(connection, self.worker.handle)
            finally:
                os._exit(0)  # nothing of the host's is ended twice
        return {"forked": True, "process": process}


class Worker:
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
        """Say what this environment is made of; starts threads, and is not for a host that is yet to fork."""
        from mnist_loop.bench import machine
        from mnist_loop.support.device import resolve_device

        return {
            "machine": {"name": machine.name(str(resolve_device(request["device"]))), **machine.identity()},
            "software": machine.software(),
            "state": machine.state(),
        }

    def load(self, request: Request) -> Answer:
        """Load the data; in a host, for all of its workers."""
        from mnist_loop.data import load_data

        self.data = load_data(request["data"], download=request["download"])
        return {"data": self.data.name, "note": self.data.note, "root": str(self.data.root)}

    def stock(self, request: Request) -> Answer:
        """Make the batches that wait in the CPU's memory, and compile; in a host, for all of its workers."""
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

        kinds = {kind.part: kind for kind in workloads.KINDS}
        device, dtype = resolve_device(request["device"]), getattr(torch, request["dtype"])
        return kinds[request["part"]](self.data, request["batch_size"], device, dtype, request["engine"])

    def losses(self, _: Request) -> Answer:
        """Return what the first steps compute, one number a prefix of them, and by how much each may be off."""
        from mnist_loop.bench.workloads import loss_tolerance

        steps = min(LOSSES, self.workload.most_steps)
        found = [self._number(self.workload.prepare(count)()) for count in range(1, steps + 1)]
        return {"losses": found, "tolerance": loss_tolerance(self.workload.device, self.workload.dtype)}

    def expected(self, request: Request) -> Answer:
        """Return what a training of ``steps`` steps must compute, in float64 or by other means."""
        return {"expected": self._number(self.workload.expected(request["steps"]))}

    def begin(self, request: Request) -> Answer:
        """Train from fresh state, in turns: each "go" is a block of ``steps`` steps, until "end".

        ``most`` is how many steps there are to be at most, the lead-in of ``lead_in`` included. The answer comes in
        parts: one when the lead-in is done, one for each block, and one at the end with what was computed.
        """
        # Where tensors lie changes how fast they are: let chance decide it anew for each training, so that it is part
        # of the noise, and no difference between the arms (Curtsinger and Berger, "Stabilizer", 2013).
        self.padding = [bytearray(size) for size in random.choices(PADDING, k=PADDINGS)]  # noqa: S311  # no secret
        turns = Turns(self, request["lead_in"], request["steps"], request["most"])
        return {"found": self._number(self.workload.work_on(iter(turns))())}

    def wait(self) -> None:
        """Wait until the device has done all that it was given."""
        from mnist_loop.support.device import synchronise

        synchronise(self.workload.device)

    def ruler(self, _: Request) -> Answer:
        """Measure what the machine itself can do."""
        import dataclasses

        from mnist_loop.bench import ruler

        return dataclasses.asdict(ruler.measure(self.workload.device))

    @staticmethod
    def _number(found: Any) -> float:
        """Turn what a block computed, a loss or a batch of images and labels, into one number."""
        return found if isinstance(found, float) else float(sum(tensor.double().sum().item() for tensor in found))


class Turns:
    """The batches of a training that goes on block by block, each when it is this arm's turn.

    Between two blocks the training loop waits for its next batch, and here that is until the comparison says go.
    """

    def __init__(self, worker: Worker, lead_in: int, steps: int, most: int) -> None:
        self.worker, self.lead_in, self.steps = worker, lead_in, steps
        self.batches = worker.workload.batches(most)

    def __iter__(self) -> Iterator[Any]:
        yield from islice(self.batches, self.lead_in)
        self.worker.wait()
        self._send({"ready": True})
        while json.loads(self.worker.connection.recv_bytes())["do"] == "go":
            yield from self._block()

    def _block(self) -> Iterator[Any]:
        """Yield the batches of a block, and send its times.

        ``seconds`` is all of it. ``undisturbed`` is what it would be if each step took what the fastest quarter takes
        at most: the lower quartile of the steps' times, where the CPU does the work itself and knows when a step ends.
        Three quarters of the steps take no less, so it is 4/3 of ``seconds`` at most.
        """
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
            at_once = self.worker.workload.at_once  # the first of them come at once, and the last when all are done
            calls = [end - start for start, end in pairwise(times[::at_once])]
            undisturbed = len(calls) * lower_quartile(calls)
        self._send({"seconds": seconds, "undisturbed": undisturbed})

    def _send(self, answer: Answer) -> None:
        self.worker.connection.send_bytes(json.dumps(answer).encode())


def lower_quartile(values: list[float]) -> float:
    """Return the value that a quarter of ``values`` does not exceed."""
    return sorted(values)[(len(values) - 1) // 4]


def _spin(seconds: float) -> None:
    """Keep the CPU busy: sleeping would be rounded up to the next tick of the system's clock."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return (lines[0] if kind.endswith("Error") and _is_ours(error) else f"{kind}: {lines[0]}") if lines else kind


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__ == "mnist_loop.errors"


def main(address: str, package: str, ours: str) -> None:
    """Be the host of an arm until the comparison closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the comparison's to answer
    if CAN_FORK:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no worker stays behind as a zombie
    connection = Client(address)
    try:
        take_packages(Path(package), Path(ours))
        host = Host(connection)
    except Exception as error:  # noqa: BLE001  # whatever is wrong with that environment, the comparison must hear of it
        connection.send_bytes(json.dumps({"error": _sentence(error), "traceback": traceback.format_exc()}).encode())
        return
    connection.send_bytes(json.dumps({"ready": True, "python": sys.version.split()[0]}).encode())
    answer(connection, host.handle)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file: its neighbours are no top-level modules
    main(*sys.argv[1:])
