"""The workers of a comparison: one host an environment, and in each generation one worker an arm."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mnist_loop.compare.arms import Arm
from mnist_loop.compare.plan import Plan
from mnist_loop.compare.processes import Host, Peer
from mnist_loop.compare.worker import CAN_FORK


class Crew:
    """Starts, restarts and ends the processes of all arms.

    Args:
        arms: the first, the others, and the control.
        plan: what holds where an arm sets nothing.
        say: told what is going on.
    """

    def __init__(self, arms: Sequence[Arm], plan: Plan, say: Callable[[str], object]) -> None:
        self.arms, self.plan, self.say = arms, plan, say
        self.folder = Path(tempfile.mkdtemp(prefix="mnist-loop-"))
        self.hosts: dict[Any, Host] = {}
        self.workers: list[Peer] = []
        self.devices: dict[int, str] = {}
        self.data = plan.data  # where the first host found them
        self.data_name = self.note = ""

    @property
    def apart(self) -> bool:
        """Whether the arms run in hosts of their own, which differ by what an import left where in memory."""
        return len({arm.host for arm in self.arms}) > 1

    def key(self, arm: Arm) -> Any:
        """Return what two arms share where they share a host; the control is to the first arm as the others are."""
        return arm.host, arm.control and self.apart, () if CAN_FORK else self.arms.index(arm)

    def start(self) -> None:
        """Start the hosts, all at once, and let each load the same data.

        Raises:
            UserError: an environment without torch, say; or no data.
            WorkerLost: a process that ended at its start.
        """
        for arm in self.arms:
            if self.key(arm) not in self.hosts:
                self.hosts[self.key(arm)] = Host(arm, self.folder)
        for number, host in enumerate(self.hosts.values(), start=1):
            self.say(f"starting {host.arm.label} ({number} of {len(self.hosts)})")
            host.connect()
        for host in self.hosts.values():
            self.say(f"{host.arm.label}: loading the data")
            loaded = host.connect().ask("load", data=self.data, download=not self.data_name)
            if not self.data_name:
                self.data_name, self.note = loaded["data"], loaded["note"]
                self.data = "digits" if loaded["data"] == "Digits" else loaded["root"]

    def restart(self) -> None:
        """End all processes, and start new ones."""
        self.close_hosts()
        self.start()

    def facts(self, arm: Arm) -> dict[str, Any]:
        """Return what the arm's environment is made of, and its state."""
        worker = self.hosts[self.key(arm)].worker(arm.label)
        try:
            return worker.ask("facts", device=self.settings(arm, 1)["device"])
        finally:
            worker.close()

    def generation(self, batch_size: int, order: Sequence[int]) -> list[dict[str, Any]]:
        """Start a new worker for each arm, in ``order``; return what each answered, in the order of the arms."""
        self.dismiss()
        workers: dict[int, Peer] = {}
        prepared: dict[int, dict[str, Any]] = {}
        for index in order:
            arm = self.arms[index]
            asked = {"part": self.plan.part, **self.settings(arm, batch_size)}
            asked["device"] = self.devices.get(index, asked["device"])  # what "auto" came to: a host must not ask CUDA
            asked["cpus"] = self.cpus(int(asked["threads"]))
            self.hosts[self.key(arm)].connect().ask("stock", **asked)
            workers[index] = worker = self.hosts[self.key(arm)].worker(arm.label)
            self.workers.append(worker)  # so that Ctrl-C finds it
            prepared[index] = worker.ask("prepare", **asked)
            self.devices[index] = prepared[index]["device"]
        self.workers = [workers[index] for index in range(len(self.arms))]
        return [prepared[index] for index in range(len(self.arms))]

    def settings(self, arm: Arm, batch_size: int) -> dict[str, Any]:
        """Return how the arm is to work."""
        plan = self.plan
        chosen = {
            "device": plan.device,
            "threads": plan.threads,
            "dtype": plan.dtype,
            "engine": "reference",
            "slowdown": 0.0,
        }
        return {**chosen, "batch_size": batch_size, **arm.settings}

    def cpus(self, threads: int) -> list[int]:
        """Return the CPUs that an arm with so many threads is held to: the same for all such arms.

        Each core of a shared machine has neighbours of its own: left to themselves, identical workers that happened to
        run on different ones differed by 1 to 3% for as long as they lived. Empty where that cannot be chosen.
        """
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return allowed[-threads:]

    def dismiss(self) -> None:
        """End the workers of the generation."""
        for worker in self.workers:
            worker.close()
        self.workers = []

    def close_hosts(self) -> None:
        """End the workers and the hosts."""
        self.dismiss()
        for host in self.hosts.values():
            host.close()
        self.hosts = {}

    def close(self) -> None:
        """End all processes, and leave nothing behind."""
        self.close_hosts()
        shutil.rmtree(self.folder, ignore_errors=True)
