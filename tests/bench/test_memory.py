"""Peak memory: what a block added is seen, what came before it is not."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from mnist_loop.bench import memory
from mnist_loop.bench.memory import MIB, peak_memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")

# By how many MiB the resident memory of a process that runs on one CPU may be off:
# The kernel adds up pages of three kinds (of files, its own, shared) in batches: of max(32, 2 * CPUs) pages
# for each CPU (lib/percpu_counter.c), before Linux 6.2 of 64 for each thread. That is once at the block's
# start and once at its end.
COUNTERS_MIB = 2 * 3 * max(64, 2 * (os.cpu_count() or 1)) * mmap.PAGESIZE / MIB
# Both ends of a large allocation may lie in a huge page.
HUGE_PAGES_MIB = 2 * 2
# Python takes memory for small objects in arenas (Objects/obmalloc.c).
ARENA_MIB = 1
TOLERANCE_MIB = COUNTERS_MIB + HUGE_PAGES_MIB + ARENA_MIB

MEASURE = """
import json
from pathlib import Path
from mnist_loop.bench import memory
from mnist_loop.bench.memory import MIB, peak_memory

def use(mib):
    with peak_memory("cpu") as peak:
        assert (peak.mib, peak.how) == (None, None)
        held = bytearray(mib * MIB)
        del held
    return peak.mib, peak.how

use(1)  # the first use imports
found = {}
held = bytearray(128 * MIB)
del held
found["nothing, after 128 freed"] = use(0)
found["64"] = use(64)
found["64 again"] = use(64)
held = bytearray(100 * MIB)
found["64 beside 100 held"] = use(64)
with peak_memory() as peak:
    del held
found["nothing, and 100 given back"] = peak.mib, peak.how
try:
    with peak_memory() as peak:
        bytearray(64 * MIB)
        raise KeyboardInterrupt
except KeyboardInterrupt:
    found["64, interrupted"] = peak.mib, peak.how

bytearray(128 * MIB)
memory.CLEAR_REFS = Path("/proc/self/no-such-file")  # as where a container forbids the reset
found["no reset: below the old mark"] = use(64)
found["no reset: 192, above the old mark"] = use(192)
memory.STATUS = Path("/proc/self/no-such-file")
found["no status"] = use(64)
print(json.dumps(found))
"""
ON_ONE_CPU = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Return what a process that runs on one CPU measured of itself."""
    done = subprocess.run(
        [sys.executable, "-c", ON_ONE_CPU, sys.executable, "-c", MEASURE],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@linux
@pytest.mark.parametrize(
    ("case", "mib"),
    [
        ("64", 64),
        ("64 again", 64),
        ("64 beside 100 held", 64),
        ("64, interrupted", 64),
        ("nothing, after 128 freed", 0),
        ("nothing, and 100 given back", 0),
        ("no reset: 192, above the old mark", 192),
    ],
)
def test_the_peak_is_what_the_block_added(case: str, mib: int, found: dict[str, Any]) -> None:
    """An allocation in the block is seen though it is freed in it; one before the block is not."""
    added, how = found[case]
    assert how == "VmHWM"
    assert added == pytest.approx(mib, abs=TOLERANCE_MIB)
    assert added >= 0


@linux
@pytest.mark.parametrize("case", ["no reset: below the old mark", "no status"])
def test_an_unknown_peak_is_none(case: str, found: dict[str, Any]) -> None:
    """A mark that the block did not raise, and could not reset, says nothing of the block."""
    assert found[case] == [None, None]


def test_a_peak_is_not_below_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's batches may put the highest below the present: that is nothing, not less."""
    monkeypatch.setattr(memory, "_meter", lambda device: (device, lambda: ("VmHWM", lambda: -4096)))
    with peak_memory("cpu") as peak:
        pass
    assert (peak.mib, peak.how) == (0, "VmHWM")


@linux
def test_tensors_count() -> None:
    """The memory of CPU tensors is memory of the process."""
    floats = 64 * MIB // 4
    with peak_memory(torch.device("cpu")) as peak:
        torch.ones(floats)
    assert peak.mib is not None
    # Other threads of this process may free memory meanwhile, and it runs on all CPUs: half is beyond doubt.
    assert peak.mib > 32


def test_blocks_on_one_device_do_not_nest() -> None:
    """An inner block would reset the outer one's mark: an error, and the outer one goes on."""
    with peak_memory("cpu"):
        with peak_memory("meta") as other:
            pass
        with pytest.raises(RuntimeError, match="measuring cpu already"), peak_memory("cpu"):
            pass
    assert (other.mib, other.how) == (None, None)
    with pytest.raises(ZeroDivisionError), peak_memory("cpu"):
        raise ZeroDivisionError
    with peak_memory("cpu"):
        pass


class Allocator:
    """The allocators of two CUDA devices, by the functions of ``torch.cuda`` that tell of them."""

    def __init__(self) -> None:
        self.now, self.peak, self.current, self.resets = [0, 0], [0, 0], 0, 0

    def use(self, device: int, mib: int) -> None:
        """Allocate on a device, or free if negative."""
        self.now[device] += mib * MIB
        self.peak[device] = max(self.peak[device], self.now[device])

    def reset(self, device: int) -> None:
        """Do as ``torch.cuda.reset_peak_memory_stats``."""
        self.resets += 1
        self.peak[device] = self.now[device]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Allocator:
    """Put two made-up CUDA devices in place."""
    allocator = Allocator()
    monkeypatch.setattr(torch.cuda, "current_device", lambda: allocator.current)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocator.now[device])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: allocator.peak[device])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", allocator.reset)
    return allocator


@pytest.mark.parametrize(("device", "number"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_cuda_counts_tensors_of_its_device(device: str, number: int, cuda: Allocator) -> None:
    """The peak of the device that was meant at the start, above what was held there."""
    cuda.use(number, 500)
    cuda.use(number, -400)
    with peak_memory(torch.device(device)) as peak:
        cuda.use(number, 64)
        cuda.use(number, -64)
        cuda.use(1 - number, 1000)
        cuda.current = 1 - cuda.current
    assert (peak.mib, peak.how) == (64, "torch.cuda")
    assert cuda.resets == 1


def test_cuda_without_its_index_is_the_current_device(cuda: Allocator) -> None:
    """Two names of one device are one device; two devices are two."""
    cuda.current = 1
    with peak_memory("cuda") as peak, peak_memory("cuda:0"), peak_memory("cpu"):
        cuda.use(1, 8)
        with pytest.raises(RuntimeError, match="measuring cuda:1 already"), peak_memory("cuda:1"):
            pass
    assert peak.mib == 8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_cuda_device_counts_the_same() -> None:
    """As above, on a device: 64 MiB are a multiple of the allocator's blocks, so the count is exact."""
    held = torch.ones(32 * MIB // 4, device="cuda")
    torch.ones(256 * MIB // 4, device="cuda")
    with peak_memory("cuda") as peak:
        torch.empty(64 * MIB // 4, device="cuda")
    assert (peak.mib, peak.how) == (64, "torch.cuda")
    assert held.is_cuda


def test_other_devices_are_not_known() -> None:
    """No figure, and no error."""
    with peak_memory("mps") as peak:
        pass
    assert (peak.mib, peak.how) == (None, None)


@pytest.mark.parametrize(("lifetime_mib", "expected"), [(500, (None, None)), (640, (440.0, "ru_maxrss"))])
def test_a_mark_of_the_whole_life_tells_of_a_block_that_raised_it(
    lifetime_mib: int, expected: tuple[float | None, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS and Windows: known above the old mark of 500 MiB, with 200 in use at the start; else None."""
    mark = 500
    monkeypatch.setattr(memory, "_meter", lambda device: (device, memory._start_lifetime))
    monkeypatch.setattr(memory, "_lifetime", lambda: ("ru_maxrss", mark * MIB))
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=200 * MIB)))
    with peak_memory("cpu") as peak:
        mark = lifetime_mib
    assert (peak.mib, peak.how) == expected


def test_the_lifetime_mark_is_in_bytes() -> None:
    """It is no less than what is in use, and no thousand times more: the unit is that of the system."""
    how, highest = memory._lifetime()
    present = psutil.Process().memory_info().rss
    assert how in ("ru_maxrss", "peak_wset")
    assert present / 2 < highest < present * 100  # a wrong unit is off by 1024
