"""The state of the machine and of this process at this moment."""

from __future__ import annotations

import os
import re
import sys
from datetime import datetime, timezone
from pathlib import PurePosixPath

import psutil

from mnist_loop.bench.machine.asking import Facts, read_file, told
from mnist_loop.bench.machine.cpus import allowed_cpus, available_cpus, cgroup_quota
from mnist_loop.bench.machine.gpus import MIB, gpu_state

# Environment variables that decide how many threads run, where, and by which instructions. None holds a path.
SETTINGS = (
    "OMP_NUM_THREADS",
    "OMP_DYNAMIC",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OMP_WAIT_POLICY",
    "GOMP_CPU_AFFINITY",
    "GOMP_SPINCOUNT",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_LAUNCH_BLOCKING",
    "NVIDIA_TF32_OVERRIDE",
)


def current_state() -> Facts:
    """Return the state of the machine and of this process now.

    Keys: ``time`` (UTC, ISO 8601), ``cpu`` (load, affinity, quota, frequency in MHz, governor, steal),
    ``memory_mib`` (available), ``torch`` (threads, precision, determinism), ``settings`` (environment
    variables on threads and arithmetic, where set), ``preload`` (names of preloaded libraries, often an allocator),
    ``gpus`` (clocks in MHz, power in W, temperature in degrees Celsius, utilisation in per cent, memory in MiB, and
    what limits the clocks).

    It never starts CUDA. ``cuda_device`` of a GPU is its number in this process, or None where that is uncertain.
    """
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_state(),
        "memory_mib": told(lambda: psutil.virtual_memory().available // MIB),
        "torch": _torch_state(),
        "settings": {key: os.environ[key] for key in SETTINGS if key in os.environ},
        "preload": _preload(),
        "gpus": gpu_state(),
    }


def _cpu_state() -> Facts:
    affinity = allowed_cpus()
    steal_s, cpu_s = _cpu_times()
    current_mhz, max_mhz = _frequency_mhz()
    return {
        "load_average": _load_average(),
        "affinity": affinity,
        "quota_cpus": cgroup_quota(),
        "available_cpus": available_cpus(),
        "governor": _governor(affinity),
        "current_mhz": current_mhz,
        "max_mhz": max_mhz,
        "steal_s": steal_s,
        "cpu_s": cpu_s,
        "steal_share_since_boot": steal_s / cpu_s if steal_s is not None and cpu_s else None,
    }


def _load_average() -> list[float] | None:
    if sys.platform == "win32":
        return None  # psutil's keeps a thread running
    return told(lambda: list(os.getloadavg()))


def _cpu_times() -> tuple[float | None, float | None]:
    """Return the seconds of steal and of all CPU time, idle included, since boot and over all CPUs; None if unknown."""
    times = told(lambda: psutil.cpu_times()._asdict())
    if times is None:
        return None, None
    # A guest's time is counted as user time too.
    total = sum(seconds for mode, seconds in times.items() if mode not in ("guest", "guest_nice"))
    return times.get("steal"), round(total, 2)


def _frequency_mhz() -> tuple[float | None, float | None]:
    """Return the current frequency (mean over the CPUs) and the highest possible one, in MHz."""
    reading = told(psutil.cpu_freq)
    return (reading.current or None, reading.max or None) if reading else (None, None)


def _governor(affinity: list[int] | None) -> str | None:
    files = [f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor" for cpu in affinity or [0]]
    return ",".join(sorted({text for text in map(read_file, files) if text})) or None


def _preload() -> list[str]:
    paths = re.split(r"[\s:]+", os.environ.get("LD_PRELOAD") or os.environ.get("DYLD_INSERT_LIBRARIES") or "")
    return [PurePosixPath(path).name for path in paths if path]


def _torch_state() -> Facts:
    import torch

    backends = torch.backends
    return {
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "float32_matmul_precision": told(torch.get_float32_matmul_precision),
        "cuda_matmul_allow_tf32": told(lambda: backends.cuda.matmul.allow_tf32),
        "cuda_matmul_fp32_precision": told(lambda: backends.cuda.matmul.fp32_precision),
        "cudnn_allow_tf32": told(lambda: backends.cudnn.allow_tf32),
        "cudnn_benchmark": told(lambda: backends.cudnn.benchmark),
        "cudnn_deterministic": told(lambda: backends.cudnn.deterministic),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }
