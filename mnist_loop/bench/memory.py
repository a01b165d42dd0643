"""The peak memory of a block of code, above the memory in use when it begins.

On the CPU it is the resident memory of the process, in pages. Memory that the process freed may stay resident in its C
library, and is then used again unseen. With glibc it is returned to the system first; elsewhere a block of small
tensors after another such block may seem to need nothing. The first use of a library adds its code and buffers: warm up
first. Other threads of the process are counted; other processes, such as the workers of a DataLoader, are not.

On CUDA it is the memory of tensors, without the context, the libraries and the unused part of the caching allocator.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

KIB = 2**10
MIB = 2**20

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_HIGH_WATER = "5"  # the command that sets VmHWM to VmRSS: man 5 proc_pid_clear_refs, Linux 4.0

_measured: set[str] = set()  # the devices whose high-water mark is in use


@dataclass
class Peak:
    """What :func:`peak_memory` yields; the fields are set when the block ends.

    Attributes:
        mib: the peak, in MiB above the memory in use before the block; None where it is not known.
        how: ``"VmHWM"``, ``"ru_maxrss"`` or ``"peak_wset"`` for the resident memory of the process,
            ``"torch.cuda"`` for the memory of tensors on the device, None without a figure.
    """

    mib: float | None = None
    how: str | None = None


@contextmanager
def peak_memory(device: str | torch.device = "cpu") -> Iterator[Peak]:
    """Measure the peak memory of the block on ``device``: ``cpu``, ``cuda`` or ``cuda:1``; on others, None.

    The high-water mark of the process or of the device is reset and stays so. Where the system cannot reset it (macOS,
    Windows), ``mib`` is None unless the block exceeds the highest mark before it. Linux counts resident pages in
    batches: VmHWM may be off by ``max(32, 2 * CPUs)`` pages for each CPU that the process ran on and each kind of page
    (file, anonymous, shared). CUDA counts in blocks of 512 bytes.

    Raises:
        RuntimeError: a block on the same device is being measured already; or CUDA is asked for and not there.
    """
    key, start = _meter(str(device))
    if key in _measured:
        raise RuntimeError(f"peak_memory is measuring {key} already; its blocks cannot be nested")
    _measured.add(key)
    try:
        peak = Peak()
        how, read_added = start()
        try:
            yield peak
        finally:
            added = read_added()
            if added is not None:
                peak.mib, peak.how = max(0, added) / MIB, how
    finally:
        _measured.discard(key)


Start = Callable[[], tuple[str, Callable[[], "int | None"]]]


def _meter(device: str) -> tuple[str, Start]:
    """Return the device with its index, and the function that starts measuring it."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return kind, _start_status if sys.platform == "linux" else _start_lifetime
    if kind != "cuda":
        return device, lambda: ("", lambda: None)
    import torch

    current = torch.cuda.current_device()  # starts CUDA, before which the allocator has no statistics
    number = int(index) if index else current
    return f"cuda:{number}", lambda: _start_cuda(number)


def _start_cuda(number: int) -> tuple[str, Callable[[], int | None]]:
    import torch

    torch.cuda.reset_peak_memory_stats(number)
    before = torch.cuda.memory_allocated(number)
    return "torch.cuda", lambda: torch.cuda.max_memory_allocated(number) - before


def _start_status() -> tuple[str, Callable[[], int | None]]:
    _give_back_free_heap()
    highest_ever, _ = _resident()
    try:
        CLEAR_REFS.write_text(RESET_HIGH_WATER)
        reset = True
    except OSError:
        reset = False  # a container that forbids it, or a kernel built without it
    _, before = _resident()

    def read_added() -> int | None:
        highest, _ = _resident()
        if highest is None or highest_ever is None or before is None:
            return None
        return highest - before if reset or highest > highest_ever else None

    return "VmHWM", read_added


def _give_back_free_heap() -> None:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
    if trim is not None:
        trim(0)


def _resident() -> tuple[int | None, int | None]:
    """Return the highest and the present resident memory of the process in bytes; None where unknown."""
    try:
        status = STATUS.read_text()
    except OSError:
        return None, None
    fields = {key: int(kib) * KIB for key, kib in re.findall(r"^(\w+):\s*(\d+) kB$", status, re.MULTILINE)}
    return fields.get("VmHWM"), fields.get("VmRSS")


def _start_lifetime() -> tuple[str, Callable[[], int | None]]:
    how, highest_ever = _lifetime()
    before = psutil.Process().memory_info().rss

    def read_added() -> int | None:
        _, highest = _lifetime()
        # Where the mark is unchanged, the block stayed below it.
        return highest - before if highest > highest_ever else None

    return how, read_added


def _lifetime() -> tuple[str, int]:
    """Return the name and the bytes of the highest resident memory that this process ever had."""
    if sys.platform == "win32":
        return "peak_wset", psutil.Process().memory_info().peak_wset
    import resource

    unit = 1 if sys.platform == "darwin" else KIB  # getrusage(2): bytes on macOS, KiB elsewhere
    return "ru_maxrss", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
