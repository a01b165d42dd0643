"""The processes of a comparison: one host for each environment, and in each generation one worker for each arm."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mnist_loop.compare.arms import Arm
from mnist_loop.compare.hosts import HostProcess
from mnist_loop.compare.plan import Plan
from mnist_loop.compare.worker import CAN_FORK
from mnist_loop.support.leftovers import temporary_folder
from mnist_loop.support.wire import ANSWER_S, Peer

# A block takes 0.005 s, and the first step, without compiling, some 0.1 s; on a machine that swaps both take much more.
STEPS_S = 60.0
REFERENCE = "reference"  # the engine that compiles nothing


class Crew:
    """Starts, restarts and ends the processes of all arms.

    Args:
        arms: the first, the others, and the control.
        plan: what holds where an arm sets nothing.
        say: called with what is being done.
    """

    def __init__(self, arms: Sequence[Arm], plan: Plan, say: Callable[[str], object]) -> None:
        self.arms, self.plan, self.say = arms, plan, say
        self.opened = ExitStack()
        self.folder: Path | None = None  # of sockets and logs
        self.hosts: dict[Any, HostProcess] = {}
        self.workers: list[Peer] = []
        self.devices: dict[int, str] = {}
        self.data = plan.data  # after the start: where the first host found them
        self.data_name = self.note = ""

    @property
    def apart(self) -> bool:
        """Whether the arms run in separate host processes, whose memory layouts differ."""
        return len({arm.host for arm in self.arms}) > 1

    def key(self, arm: Arm) -> Any:
        """Return the key of an arm's host: arms with equal keys share one.

        Where the other arms have hosts of their own, the control has too, so that it differs from the first arm no less
        than they do.
        """
        return arm.host, arm.control and self.apart, () if CAN_FORK else self.arms.index(arm)

    def start(self) -> None:
        """Start the hosts, all at once, and let each load the same data.

        Raises:
            UserError: an environment without torch, say; or no data.
            WorkerLost: a process that ended at its start.
        """
        if self.folder is None:
            self.folder = self.opened.enter_context(temporary_folder("compare"))
        for arm in self.arms:
            if self.key(arm) not in self.hosts:
                self.hosts[self.key(arm)] = HostProcess(arm, self.folder)
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
            asked["device"] = self.devices.get(
                index, asked["device"]
            )  # "auto" as resolved before: a host that uses CUDA cannot fork
            asked["cpus"] = self.cpus(int(asked["threads"]))
            self.hosts[self.key(arm)].connect().ask("stock", **asked)
            workers[index] = worker = self.hosts[self.key(arm)].worker(arm.label)
            self.workers.append(worker)  # so that Ctrl-C finds it
            worker.patience_s = STEPS_S
            first_s = STEPS_S if asked["engine"] == REFERENCE else ANSWER_S  # it may have to compile
            prepared[index] = worker.ask("prepare", timeout_s=first_s, **asked)
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
            "engine": REFERENCE,
            "slowdown": 0.0,
        }
        return {**chosen, "batch_size": batch_size, **arm.settings}

    def cpus(self, threads: int) -> list[int]:
        """Return the CPUs that arms with this number of threads are pinned to; empty where the system cannot pin.

        Cores of a shared machine differ in load: without pinning, identical workers on different cores differed by 1 to
        3% until they ended.
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
        """End all processes, and delete the temporary folder."""
        self.close_hosts()
        self.opened.close()
