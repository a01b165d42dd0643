"""What a result must say about the machine: its identity, its software, and its state of the moment.

The identity is hashed: results with one hash come from one kind of machine. The state is recorded and never
hashed. What an operating system, a container or a driver does not tell is None; nothing here raises for it.
No host name, no user name, no path and no serial number is written.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import psutil

from mnist_loop import __version__

Facts = dict[str, Any]
T = TypeVar("T")

ROOT = Path("/")  # where /proc and /sys are: the tests put made-up ones elsewhere
MIB = 2**20
GIB = 2**30

HASH_DIGITS = 12  # 48 bits: among a million machines, a one in 560 chance that any two share a hash
NAME_DIGITS = 6  # enough to tell machines of one model apart in a folder; the whole hash is in the result
NAME_WORDS_LENGTH = 48  # characters of the model: leaves room for a test's name in the 255 of a file name

# The settings that change how many threads run, where, and by which instructions. Their values hold no path.
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

# The bits of nvmlDeviceGetCurrentClocksEventReasons, by the names in nvml.h.
CLOCK_EVENTS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}


# What stays


def identity() -> Facts:
    """Return what stays the same on this machine, and its hash.

    Keys: ``cpu`` (model), ``architecture``, ``physical_cores``, ``logical_cores``, ``memory_gib`` (rounded
    up), ``system``, ``gpus`` (a list of ``name``, ``memory_mib``, ``compute_capability``), ``gpu_driver``,
    and ``hash``: the SHA-256 of the other keys, shortened. Counts are those of the machine, whatever affinity
    and control groups allow. GPUs are all that NVML knows; without NVML, those that torch sees.
    """
    gpus, driver = _gpu_identity()
    facts: Facts = {
        "cpu": _cpu_model(),
        "architecture": platform.machine() or None,
        "physical_cores": _told(lambda: psutil.cpu_count(logical=False)),
        "logical_cores": _logical_cores(),
        # The kernel shows less than is built in, by an amount that changes from release to release. Rounding
        # to the nearest would flip on a machine of 16 GiB, which shows 15.5.
        "memory_gib": _told(lambda: math.ceil(psutil.virtual_memory().total / GIB)),
        "system": platform.system() or None,
        "gpus": gpus,
        "gpu_driver": driver,
    }
    return facts | {"hash": _digest(facts)}


def name(device: str = "cpu") -> str:
    """Return a name for files: model, number of CPUs or kind of device, start of the hash.

    ``intel-xeon-processor-2cpu-1a2b3c`` for the CPU, ``nvidia-h200-1a2b3c`` for ``"cuda"`` or ``"cuda:0"``,
    ``apple-m2-mps-1a2b3c`` for other devices. Lower-case letters, digits and hyphens alone.
    """
    facts = identity()
    kind, _, index = device.partition(":")
    model, detail = facts["cpu"], kind
    if kind == "cuda":
        model, detail = _cuda_name(int(index or 0), facts["gpus"]), ""
    elif kind == "cpu":
        detail = f"{facts['logical_cores']}cpu" if facts["logical_cores"] else ""
    words = _slug(model or "")[:NAME_WORDS_LENGTH].strip("-") or ("gpu" if kind == "cuda" else "cpu")
    return "-".join(part for part in (words, _slug(detail), facts["hash"][:NAME_DIGITS]) if part)


def _digest(facts: Facts) -> str:
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:HASH_DIGITS]


def _slug(text: str) -> str:
    """``Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz`` becomes ``intel-core-i7-8650u``."""
    text = re.sub(r"\((?:r|tm|c)\)|\bcpu\b|@.*", " ", text.lower())
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


@cache  # py-cpuinfo starts a process and measures: about a second
def _cpu_model() -> str | None:
    try:
        model = import_module("cpuinfo").get_cpu_info().get("brand_raw")
    except (ImportError, OSError, ValueError):
        # Not installed, no process may be started, or that process printed no JSON.
        model = None
    return " ".join(str(model or platform.processor() or "").split()) or None


def _logical_cores() -> int | None:
    # "present" and not "online": a core that is switched off is a state. psutil and os.cpu_count() may count
    # what affinity allows, depending on the C library.
    present = _read("sys/devices/system/cpu/present")
    if present is not None and re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", present):
        ends = [part.split("-") for part in present.split(",")]
        return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)
    return _told(lambda: psutil.cpu_count(logical=True))


# What an update changes


def software() -> Facts:
    """Return the versions and build facts that a number depends on, besides the machine's identity.

    Keys: ``mnist_loop``, ``python``, ``implementation``, ``torch``, ``torch_git``, ``torchvision``,
    ``numpy``, ``triton``, ``cuda``, ``cudnn`` (an integer, as torch gives it), ``hip``, ``blas``, ``lapack``,
    ``mkl``, ``onednn``, ``openmp``, ``cpu_capability`` (the instructions that torch's kernels use),
    ``compiler``, ``build_type``, ``os``, ``os_release``, ``libc``. What torch was built without is None.
    """
    import torch

    config = torch.__config__.show()
    return {
        "mnist_loop": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "torch": str(torch.__version__),
        "torch_git": _told(lambda: str(torch.version.git_version)),
        "torchvision": _installed("torchvision"),
        "numpy": _installed("numpy"),
        "triton": _installed("triton"),
        "cuda": torch.version.cuda,
        "cudnn": _told(torch.backends.cudnn.version),
        "hip": torch.version.hip,
        "cpu_capability": _told(torch.backends.cpu.get_cpu_capability),
        **_parse_build(config),
        "os": _os_version(),
        "os_release": platform.release() or None,
        "libc": " ".join(platform.libc_ver()).strip() or None,
    }


def _parse_build(config: str) -> Facts:
    """Return the facts in ``torch.__config__.show()``; None for each that is not there."""

    def find(pattern: str) -> str | None:
        match = re.search(pattern, config, re.MULTILINE)
        return " ".join(match[1].split()) if match else None

    return {
        "blas": find(r"\bBLAS_INFO=([\w.-]+)"),
        "lapack": find(r"\bLAPACK_INFO=([\w.-]+)"),
        "mkl": find(r"Math Kernel Library Version ([\w.]+)"),
        "onednn": find(r"(?:MKL-DNN|oneDNN) v([\w.]+)"),
        "openmp": find(r"a\.k\.a\. OpenMP ([\w.]+)"),
        "compiler": find(r"^\s*- ((?:GCC|clang|MSVC) [\w.]+)"),
        "build_type": find(r"\bBUILD_TYPE=(\w+)"),
    }


def _installed(package: str) -> str | None:
    from importlib import metadata  # a quarter of this module's import time

    # Importing torchvision instead would fail where its build does not fit torch's.
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _os_version() -> str | None:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    if sys.platform == "win32":
        return f"Windows {platform.version()}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system() or None  # a container without an os-release file


# What the moment brings


def state() -> Facts:
    """Return what the machine and this process are like just now.

    Keys: ``time`` (UTC, ISO 8601), ``cpu`` (load, affinity, quota, frequency in MHz, governor, steal),
    ``memory_mib`` (available), ``torch`` (threads, precision, determinism), ``settings`` (environment
    variables on threads and arithmetic, where set), ``preload`` (names of libraries put before all others,
    an allocator often), ``gpus`` (clocks in MHz, power in W, temperature in degrees Celsius, utilisation in
    per cent, memory in MiB, and why the clocks are where they are).

    CUDA is never started by the asking. ``cuda_device`` of a GPU is its number in this process, or None where
    that is not certain.
    """
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_state(),
        "memory_mib": _told(lambda: psutil.virtual_memory().available // MIB),
        "torch": _torch_state(),
        "settings": {key: os.environ[key] for key in SETTINGS if key in os.environ},
        "preload": _preload(),
        "gpus": _gpu_state(),
    }


def steal_share(before: Facts, after: Facts) -> float | None:
    """Return the share of the CPU time between two states that other virtual machines took, 0 to 1.

    None where the system does not count it, or where the counters have not moved (they tick 100 times a
    second).
    """
    first, last = before["cpu"], after["cpu"]
    if None in (first["steal_s"], last["steal_s"]) or last["cpu_s"] <= first["cpu_s"]:
        return None
    share: float = (last["steal_s"] - first["steal_s"]) / (last["cpu_s"] - first["cpu_s"])
    return share


def available_cpus() -> int:
    """Return how many CPUs this process may keep busy: those of its affinity, within its quota; at least 1.

    A part of a CPU in the quota is left out: with one thread too many, a control group stops all of them
    until its next period, and a step of 0.3 ms takes 100.
    """
    affinity = _affinity()
    count = len(affinity) if affinity else os.cpu_count() or 1
    quota = _cgroup_quota()
    return count if quota is None else max(1, min(count, math.floor(quota)))


def _cpu_state() -> Facts:
    affinity = _affinity()
    steal_s, cpu_s = _cpu_times()
    current_mhz, max_mhz = _frequency_mhz()
    return {
        "load_average": _load_average(),
        "affinity": affinity,
        "quota_cpus": _cgroup_quota(),
        "available_cpus": available_cpus(),
        "governor": _governor(affinity),
        "current_mhz": current_mhz,
        "max_mhz": max_mhz,
        "steal_s": steal_s,
        "cpu_s": cpu_s,
        "steal_share_since_boot": steal_s / cpu_s if steal_s is not None and cpu_s else None,
    }


def _affinity() -> list[int] | None:
    """Return the numbers of the CPUs that this process may run on; None where there is no such thing."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    if sys.platform == "darwin":
        return None
    return _told(lambda: sorted(psutil.Process().cpu_affinity() or [])) or None


def _load_average() -> list[float] | None:
    if sys.platform == "win32":
        return None  # psutil's keeps a thread running, which a measurement would feel
    return _told(lambda: list(os.getloadavg()))


def _cpu_times() -> tuple[float | None, float | None]:
    """Return seconds of steal and of all CPU time, idle too, since boot, summed over the CPUs.

    The first is None where the system does not count it.
    """
    times = _told(lambda: psutil.cpu_times()._asdict())
    if times is None:
        return None, None
    # The kernel counts a guest's time as user time too. It counts in hundredths of a second.
    total = sum(seconds for mode, seconds in times.items() if mode not in ("guest", "guest_nice"))
    return times.get("steal"), round(total, 2)


def _frequency_mhz() -> tuple[float | None, float | None]:
    """Return the current frequency (mean over the CPUs) and the highest possible one, in MHz."""
    reading = _told(psutil.cpu_freq)
    return (reading.current or None, reading.max or None) if reading else (None, None)


def _governor(affinity: list[int] | None) -> str | None:
    files = [f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor" for cpu in affinity or [0]]
    return ",".join(sorted({text for text in map(_read, files) if text})) or None


def _preload() -> list[str]:
    paths = re.split(r"[\s:]+", os.environ.get("LD_PRELOAD") or os.environ.get("DYLD_INSERT_LIBRARIES") or "")
    return [PurePosixPath(path).name for path in paths if path]


def _cgroup_quota() -> float | None:
    """Return how many CPUs control groups (v1 or v2) allow this process, None if any number.

    The least of all levels holds.
    """
    groups: dict[str, str] = {}
    for line in (_read("proc/self/cgroup") or "").splitlines():
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        groups |= dict.fromkeys(controllers.split(","), group)  # v2 is the line that names no controller
    limits: list[float] = []
    for line in (_read("proc/self/mountinfo") or "").splitlines():
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
        inner = PurePosixPath()  # a container that sees its own group as the mount, under a name from outside
    if ".." in inner.parts:
        inner = PurePosixPath()
    return [f"{folder}/{level}" for level in (inner, *inner.parents)]


def _limit_v2(folder: str) -> float | None:
    quota, period = [*(_read(f"{folder}/cpu.max") or "").split(), "", ""][:2]
    return _cpus(quota, period)


def _limit_v1(folder: str) -> float | None:
    return _cpus(_read(f"{folder}/cpu.cfs_quota_us") or "", _read(f"{folder}/cpu.cfs_period_us") or "")


def _cpus(quota: str, period: str) -> float | None:
    # Without a limit, v2 says "max" and v1 says "-1": neither is a decimal number.
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _read(file: str) -> str | None:
    """Return the text of a file of /proc or /sys, stripped; None where it is not there or not readable."""
    try:
        return (ROOT / file.lstrip("/")).read_text(errors="replace").strip()
    except OSError:
        return None


def _torch_state() -> Facts:
    import torch

    backends = torch.backends
    return {
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "float32_matmul_precision": _told(torch.get_float32_matmul_precision),
        "cuda_matmul_allow_tf32": _told(lambda: backends.cuda.matmul.allow_tf32),
        "cuda_matmul_fp32_precision": _told(lambda: backends.cuda.matmul.fp32_precision),
        "cudnn_allow_tf32": _told(lambda: backends.cudnn.allow_tf32),
        "cudnn_benchmark": _told(lambda: backends.cudnn.benchmark),
        "cudnn_deterministic": _told(lambda: backends.cudnn.deterministic),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _told(read: Callable[[], T]) -> T | None:
    """Return what torch or the system answers, without its warnings; None where it has no answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name or a driver is old is not news here
        try:
            return read()
        except (AttributeError, OSError, RuntimeError, psutil.Error):
            # No such function in this version or on this system, no such file in this container, or torch
            # refuses: from 2.9 on, a precision set by its newer names cannot be read by its older ones.
            return None


# GPUs


@contextmanager
def _nvml() -> Iterator[Any]:
    """Yield the ``pynvml`` module, started, or None where there is no NVML; shut it down afterwards."""
    nvml = _started_nvml()
    try:
        yield nvml
    finally:
        if nvml is not None:
            _ask(nvml, "nvmlShutdown")


def _started_nvml() -> Any:
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None  # no NVIDIA driver, or one that does not fit its library
    return nvml


def _ask(nvml: Any, functions: str, *arguments: Any) -> Any:
    """Return what the first of ``functions`` that answers gives; None where card or driver gives nothing.

    Several names, separated by a space, are the newer and the older name of one question: drivers and
    bindings that know only one of them are in use.
    """
    for function in functions.split():
        ask = getattr(nvml, function, None)
        if ask is None:
            continue
        try:
            return ask(*arguments)
        except nvml.NVMLError:
            continue  # single questions are not supported by many cards: the others still have answers
    return None


def _handles(nvml: Any) -> list[tuple[int, Any]]:
    count = _ask(nvml, "nvmlDeviceGetCount") or 0
    found = [(index, _ask(nvml, "nvmlDeviceGetHandleByIndex", index)) for index in range(count)]
    return [(index, handle) for index, handle in found if handle is not None]


def _gpu_identity() -> tuple[list[Facts], str | None]:
    """Return name, memory and compute capability of each GPU in NVML's order, and the driver's version."""
    with _nvml() as nvml:
        if nvml is not None:
            gpus = []
            for _, handle in _handles(nvml):
                memory = _ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
                capability = _ask(nvml, "nvmlDeviceGetCudaComputeCapability", handle)
                gpus.append(
                    {
                        "name": _ask(nvml, "nvmlDeviceGetName", handle),
                        "memory_mib": memory.total // MIB if memory else None,
                        "compute_capability": "{}.{}".format(*capability) if capability else None,
                    }
                )
            return gpus, _ask(nvml, "nvmlSystemGetDriverVersion")
    return _told(_torch_gpus) or [], None


def _torch_gpus() -> list[Facts]:
    import torch

    if not torch.cuda.is_available():
        return []
    known = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [
        {
            "name": gpu.name,
            "memory_mib": gpu.total_memory // MIB,
            "compute_capability": f"{gpu.major}.{gpu.minor}",
        }
        for gpu in known
    ]


def _gpu_state() -> list[Facts]:
    with _nvml() as nvml:
        if nvml is not None:
            handles = _handles(nvml)
            numbers = _cuda_numbers(nvml, handles)
            return [{"cuda_device": numbers.get(i)} | _one_gpu(nvml, i, handle) for i, handle in handles]
    return _told(_torch_gpu_state) or []


def _one_gpu(nvml: Any, index: int, handle: Any) -> Facts:
    memory = _ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    use = _ask(nvml, "nvmlDeviceGetUtilizationRates", handle)
    power_mw = _ask(nvml, "nvmlDeviceGetPowerUsage", handle)
    limit_mw = _ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    events = _ask(nvml, "nvmlDeviceGetCurrentClocksEventReasons nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return {
        "index": index,
        "sm_mhz": _ask(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
        "sm_max_mhz": _ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
        "memory_mhz": _ask(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM),
        "memory_max_mhz": _ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_MEM),
        "performance_state": _ask(nvml, "nvmlDeviceGetPerformanceState nvmlDeviceGetPowerState", handle),
        "power_w": power_mw / 1000 if power_mw is not None else None,
        "power_limit_w": limit_mw / 1000 if limit_mw is not None else None,
        "temperature_c": _ask(
            nvml, "nvmlDeviceGetTemperatureV nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU
        ),
        "utilisation_percent": use.gpu if use else None,
        "memory_used_mib": memory.used // MIB if memory else None,
        "clock_events": _clock_events(events) if events is not None else None,
    }


def _clock_events(bits: int) -> list[str]:
    """Return the names of the reasons why the clocks are below their highest; a bit without a name in hex."""
    ones = [1 << place for place in range(bits.bit_length()) if bits >> place & 1]
    return [CLOCK_EVENTS.get(bit, hex(bit)) for bit in ones]


def _torch_gpu_state() -> list[Facts]:
    import torch

    if not _cuda_started():
        return []
    memory = [torch.cuda.mem_get_info(index) for index in range(torch.cuda.device_count())]
    return [
        {"index": None, "cuda_device": index, "memory_used_mib": (total - free) // MIB}
        for index, (free, total) in enumerate(memory)
    ]


def _cuda_numbers(nvml: Any, handles: list[tuple[int, Any]]) -> dict[int, int]:
    """Return the CUDA number of each NVML index; one that this process does not see, or may not, is left out.

    By UUID where torch tells it (from 2.5 on, once CUDA is started), else by ``CUDA_VISIBLE_DEVICES``.
    """
    uuids = {index: _bare(_ask(nvml, "nvmlDeviceGetUUID", handle) or "") for index, handle in handles}
    by_torch = _told(_torch_uuids)
    if by_torch is not None:
        return {index: by_torch.index(uuid) for index, uuid in uuids.items() if uuid in by_torch}
    models = {_ask(nvml, "nvmlDeviceGetName", handle) for _, handle in handles}
    if len(models) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        return {}  # CUDA puts the fastest first by its own judgement, NVML goes by the bus
    return {index: number for number, index in enumerate(_visible(uuids))}


def _torch_uuids() -> list[str] | None:
    import torch

    if not _cuda_started():
        return None
    known = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [_bare(str(gpu.uuid)) for gpu in known]


def _cuda_started() -> bool:
    """Whether this process uses CUDA already: any other question starts it and takes memory on the card."""
    import torch

    return bool(torch.cuda.is_initialized())


def _bare(uuid: str) -> str:
    # NVML writes "GPU-" before what torch writes without.
    return uuid.lower().removeprefix("gpu-")


def _visible(uuids: dict[int, str]) -> list[int]:
    """Return the NVML indices of the devices that CUDA shows, in its order, by ``CUDA_VISIBLE_DEVICES``."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return list(uuids)
    order: list[int] = []
    for item in map(str.strip, setting.split(",")):
        if item.isdecimal():
            fits = [index for index in uuids if index == int(item)]
        else:
            start = _bare(item) if item.startswith("GPU-") else "no such uuid"
            fits = [index for index, uuid in uuids.items() if uuid.startswith(start)]
        if len(fits) != 1:
            break  # from the first item that names no device on, CUDA ignores the rest
        order += fits
    return order if len(set(order)) == len(order) else []  # the same device twice: CUDA shows none


def _cuda_name(number: int, gpus: list[Facts]) -> str | None:
    """Return the model of a CUDA device: as torch says, else the one that NVML lists in its place."""

    def by_torch() -> str | None:
        import torch

        return torch.cuda.get_device_name(number) if torch.cuda.is_available() else None

    return _told(by_torch) or (gpus[number]["name"] if number < len(gpus) else None)
