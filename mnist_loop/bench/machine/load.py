"""What other programs use of the CPUs: training with several threads on a busy machine waits for itself."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

from mnist_loop.bench.machine.cpus import available_cpus


class OthersLoad:
    """Counts the CPU time of other programs from the moment at which it is made."""

    def __init__(self) -> None:
        self._before = _seconds()

    def hint(self, seconds: float, threads: int) -> str:
        """Return a sentence where other programs left too few CPUs for the threads, and "" where they did not.

        Args:
            seconds: since the object was made.
            threads: with which this process computed.
        """
        after, cpus = _seconds(), _cpus()
        if self._before is None or after is None or cpus is None:
            return ""
        return too_busy((after - self._before) / seconds, threads, cpus)


def too_busy(others: float, threads: int, cpus: int) -> str:
    """Return the sentence for a mean number of CPUs that others used."""
    # Half a CPU: what a desktop does beside its work is no reason to train with fewer threads.
    if threads < 2 or others < 0.5 or others + threads <= cpus:
        return ""
    return (
        f"other programs used {others:.1f} of the {cpus} CPUs: train when the machine is quiet, or with --threads 1, "
        "which suffers less"
    )


def _cpus() -> int | None:
    """Return the number of CPUs, if this process may use all: what runs on CPUs of others alone is no burden."""
    count = os.cpu_count()
    return count if count is not None and available_cpus() == count else None


def _seconds() -> float | None:
    """Return the seconds of CPU time that other programs have used; None where the system does not tell."""
    with suppress(OSError, psutil.Error):
        times = psutil.cpu_times()._asdict()
        idle = ("idle", "iowait", "guest", "guest_nice")  # a guest's time is user time too
        return float(sum(spent for mode, spent in times.items() if mode not in idle)) - sum(os.times()[:4])
    return None
