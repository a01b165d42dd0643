"""How many CPUs there are, and how many of them this process may use: affinity and the quota of control groups."""

from __future__ import annotations

import math
import os
import re
import sys
from pathlib import PurePosixPath

import psutil

from mnist_loop.bench.machine.asking import read_file, told


def available_cpus() -> int:
    """Return how many CPUs this process may keep busy: those of its affinity, within its quota; at least 1.

    The quota is rounded down: with one thread too many, a control group stops all threads until its next period, and a
    step of 0.3 ms takes 100 ms.
    """
    allowed = allowed_cpus()
    count = len(allowed) if allowed else os.cpu_count() or 1
    quota = cgroup_quota()
    return count if quota is None else max(1, min(count, math.floor(quota)))


def logical_cores() -> int | None:
    """Return how many logical cores the machine has, those that are switched off included."""
    # The list "present" has them all. psutil and os.cpu_count() may count what affinity allows, by C library.
    present = read_file("sys/devices/system/cpu/present")
    if present is not None and re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", present):
        ends = [part.split("-") for part in present.split(",")]
        return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)
    return told(lambda: psutil.cpu_count(logical=True))


def allowed_cpus() -> list[int] | None:
    """Return the numbers of the CPUs that this process may run on; None where the system has no affinity."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    if sys.platform == "darwin":
        return None
    return told(lambda: sorted(psutil.Process().cpu_affinity() or [])) or None


def cgroup_quota() -> float | None:
    """Return how many CPUs control groups, v1 or v2, allow this process: the lowest of all levels; None without."""
    groups: dict[str, str] = {}
    for line in (read_file("proc/self/cgroup") or "").splitlines():
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        groups |= dict.fromkeys(controllers.split(","), group)  # v2 is the line that names no controller
    limits: list[float] = []
    for line in (read_file("proc/self/mountinfo") or "").splitlines():
        mount, _, system = line.partition(" - ")
        if len(mount.split()) < 5 or not system:
            continue
        root, folder = mount.split()[3:5]
        kind, *_, options = system.split()
        if kind == "cgroup2" and "" in groups:
            limit, group = _limit_v2, groups[""]
        elif kind == "cgroup" and "cpu" in options.split(",") and "cpu" in groups:
            limit, group = _limit_v1, groups["cpu"]
        else:
            continue
        found = [limit(level) for level in _levels(folder, root, group)]
        limits += [cpus for cpus in found if cpus is not None]
    return min(limits, default=None)


def _levels(folder: str, root: str, group: str) -> list[str]:
    """Return the folders of ``group`` and of those above it; the mount at ``folder`` shows ``root``."""
    try:
        inner = PurePosixPath(group).relative_to(root)
    except ValueError:
        inner = PurePosixPath()  # in a container whose mount is its own group, under its name outside
    if ".." in inner.parts:
        inner = PurePosixPath()
    return [f"{folder}/{level}" for level in (inner, *inner.parents)]


def _limit_v2(folder: str) -> float | None:
    quota, period = [*(read_file(f"{folder}/cpu.max") or "").split(), "", ""][:2]
    return _cpus(quota, period)


def _limit_v1(folder: str) -> float | None:
    return _cpus(read_file(f"{folder}/cpu.cfs_quota_us") or "", read_file(f"{folder}/cpu.cfs_period_us") or "")


def _cpus(quota: str, period: str) -> float | None:
    # Without a limit, v2 says "max" and v1 says "-1": neither is a decimal number.
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None
