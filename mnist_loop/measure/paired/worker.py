"""A worker: one arm's side of a comparison. This file is started by the arm's own Python.

The process that is started is a *host*: it imports torch and what training needs, runs nothing, and forks a *worker*
each time it is told to, so that a restart costs hundredths of a second and not the seconds of an import. Where there
is no fork the host is its only worker, and a restart is a new host. Host and workers each talk with the comparison
over a connection of their own, one JSON object a request and one an answer, until it is closed.

The package ``mnist_loop`` is the arm's (its loop, model, data), but for ``mnist_loop.measure``, which is that of the
comparison: so two checkouts are measured by the same code.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

Request = dict[str, Any]
Answer = dict[str, Any]

LEAD_IN = 2  # steps of a block before its clock starts: the first ones make gradients and buffers
LOSSES = 10  # steps whose losses must be the same in each arm
CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"  # Apple's libraries do not survive it


def take_packages(package: Path, measure: Path) -> None:
    """Make ``package`` the ``mnist_loop`` that is imported here, with ``measure`` as its measuring part."""
    for name, folder in (("mnist_loop", package), ("mnist_loop.measure", measure)):
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
        except Exception as error:  # noqa: BLE001  # whatever it is, the comparison must hear of it
            reply = {"error": _sentence(error), "traceback": traceback.format_exc()}
        try:
            connection.send_bytes(json.dumps(reply).encode())
        except OSError:  # the comparison has gone
            return


class Host:
    """Holds what is slow to import, and forks workers."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)  # threads that run at a fork are lost in it, and the child would wait for them
        parameter = torch.nn.Parameter(torch.zeros(1))
        torch.optim.SGD([parameter], lr=1.0).zero_grad()  # the first optimizer of a process imports much
        self.worker = Worker()

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
                answer(Client(request["address"]), self.worker.handle)
            finally:
                os._exit(0)  # nothing of the host's is ended twice
        return {"forked": True, "process": process}


class Worker:
    """Does one arm's work in one generation."""

    def __init__(self) -> None:
        self.data: Any = None
        self.stocked: dict[tuple[str, int, str], Any] = {}
        self.workload: Any = None
        self.slowdown = 0.0

    def handle(self, request: Request) -> Answer:
        """Do what is asked for; return what came out."""
        do: dict[str, Callable[[Request], Answer]] = {
            "facts": self.facts,
            "load": self.load,
            "stock": self.stock,
            "prepare": self.prepare,
            "losses": self.losses,
            "expected": self.expected,
            "block": self.block,
            "ruler": self.ruler,
        }
        return do[request["do"]](request)

    def facts(self, request: Request) -> Answer:
        """Say what this environment is made of; starts threads, and is not for a host that is yet to fork."""
        from mnist_loop.device import resolve_device
        from mnist_loop.measure import machine

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
        """Make the batches that wait in the CPU's memory; in a host, for all of its workers."""
        key = request["part"], request["batch_size"], request["dtype"]
        if request["device"] == "cpu" and key not in self.stocked:
            self.stocked[key] = workload = self._make(request)
            workload.batches(1)
        return {}

    def prepare(self, request: Request) -> Answer:
        """Make the workload; return the seconds of its first step."""
        import torch

        torch.set_num_threads(request["threads"])
        key = request["part"], request["batch_size"], request["dtype"]
        self.workload = (self.stocked.get(key) if request["device"] == "cpu" else None) or self._make(request)
        self.slowdown = request["slowdown"]
        batches = self.workload.batches(1)
        started = time.perf_counter()
        self._number(self.workload.work_on(batches)())
        self._wait()
        return {
            "first_step_s": time.perf_counter() - started,
            "device": str(self.workload.device),
            "threads": torch.get_num_threads(),
            "most_steps": self.workload.most_steps,
        }

    def _make(self, request: Request) -> Any:
        import torch

        from mnist_loop.device import resolve_device
        from mnist_loop.measure import workloads

        kinds = {kind.part: kind for kind in workloads.KINDS}
        device, dtype = resolve_device(request["device"]), getattr(torch, request["dtype"])
        return kinds[request["part"]](self.data, request["batch_size"], device, dtype)

    def losses(self, _: Request) -> Answer:
        """Return what the first steps compute, one number a prefix of them, and by how much each may be off."""
        from mnist_loop.measure.workloads import loss_tolerance

        steps = min(LOSSES, self.workload.most_steps)
        found = [self._number(self.workload.prepare(count)()) for count in range(1, steps + 1)]
        return {"losses": found, "tolerance": loss_tolerance(self.workload.device, self.workload.dtype)}

    def expected(self, request: Request) -> Answer:
        """Return what a block must compute, in float64 or by other means."""
        return {"expected": self._number(self.workload.expected(request["steps"] + self._lead_in(request["steps"])))}

    def block(self, request: Request) -> Answer:
        """Do ``steps`` steps from fresh state, after a lead-in; return their seconds and what they computed."""
        steps = request["steps"]
        block = _Block(self.workload.batches(steps + self._lead_in(steps)), self._lead_in(steps), self)
        work = self.workload.work_on(block)
        found = work()
        self._wait()
        seconds = time.perf_counter() - block.started
        return {"seconds": seconds, "found": self._number(found)}

    def ruler(self, _: Request) -> Answer:
        """Measure what the machine itself can do."""
        import dataclasses

        from mnist_loop.measure import ruler

        return dataclasses.asdict(ruler.measure(self.workload.device))

    def _lead_in(self, steps: int) -> int:
        most: int = self.workload.most_steps
        return min(LEAD_IN, max(0, most - steps))

    def _wait(self) -> None:
        from mnist_loop.device import synchronise

        synchronise(self.workload.device)

    @staticmethod
    def _number(found: Any) -> float:
        """Turn what a block computed, a loss or a batch of images and labels, into one number."""
        return found if isinstance(found, float) else float(sum(tensor.double().sum().item() for tensor in found))


class _Block:
    """The batches of a block; the clock starts after its lead-in, and each later step may be made slower."""

    def __init__(self, batches: Iterator[Any], lead_in: int, worker: Worker) -> None:
        self.batches, self.lead_in, self.worker = batches, lead_in, worker
        self.started = 0.0

    def __iter__(self) -> Iterator[Any]:
        slowdown = self.worker.slowdown
        for number, batch in enumerate(self.batches):
            if number == self.lead_in:
                self.worker._wait()
                self.started = time.perf_counter()
            began = time.perf_counter()
            yield batch
            if slowdown:
                _spin(slowdown * (time.perf_counter() - began))


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


def main(address: str, package: str, measure: str) -> None:
    """Be the host of an arm until the comparison closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the comparison's to answer
    if CAN_FORK:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no worker stays behind as a zombie
    connection = Client(address)
    try:
        take_packages(Path(package), Path(measure))
        host = Host()
    except Exception as error:  # noqa: BLE001  # whatever is wrong with that environment, the comparison must hear of it
        connection.send_bytes(json.dumps({"error": _sentence(error), "traceback": traceback.format_exc()}).encode())
        return
    connection.send_bytes(json.dumps({"ready": True, "python": sys.version.split()[0]}).encode())
    answer(connection, host.handle)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file: its neighbours are no top-level modules
    main(*sys.argv[1:])
