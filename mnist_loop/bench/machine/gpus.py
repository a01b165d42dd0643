"""The GPUs, as NVML describes them; without NVML, as torch does."""

from __future__ import annotations

from typing import Any

from mnist_loop.bench.machine.asking import Facts, told
from mnist_loop.bench.machine.cuda import cuda_numbers, cuda_started
from mnist_loop.bench.machine.nvml import ask, gpu_handles, nvml_session

MIB = 2**20

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


def gpu_identity() -> tuple[list[Facts], str | None]:
    """Return name, memory and compute capability of each GPU in NVML's order, and the driver's version."""
    with nvml_session() as nvml:
        if nvml is not None:
            gpus = []
            for _, handle in gpu_handles(nvml):
                memory = ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
                capability = ask(nvml, "nvmlDeviceGetCudaComputeCapability", handle)
                gpus.append(
                    {
                        "name": ask(nvml, "nvmlDeviceGetName", handle),
                        "memory_mib": memory.total // MIB if memory else None,
                        "compute_capability": "{}.{}".format(*capability) if capability else None,
                    }
                )
            return gpus, ask(nvml, "nvmlSystemGetDriverVersion")
    return told(_torch_gpus) or [], None


def gpu_state() -> list[Facts]:
    """Return clocks, power, temperature, use and memory of each GPU in NVML's order."""
    with nvml_session() as nvml:
        if nvml is not None:
            handles = gpu_handles(nvml)
            numbers = cuda_numbers(nvml, handles)
            return [{"cuda_device": numbers.get(i)} | _one_gpu(nvml, i, handle) for i, handle in handles]
    return told(_torch_gpu_state) or []


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


def _one_gpu(nvml: Any, index: int, handle: Any) -> Facts:
    memory = ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    use = ask(nvml, "nvmlDeviceGetUtilizationRates", handle)
    power_mw = ask(nvml, "nvmlDeviceGetPowerUsage", handle)
    limit_mw = ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    events = ask(nvml, "nvmlDeviceGetCurrentClocksEventReasons nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return {
        "index": index,
        "sm_mhz": ask(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
        "sm_max_mhz": ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
        "memory_mhz": ask(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM),
        "memory_max_mhz": ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_MEM),
        "performance_state": ask(nvml, "nvmlDeviceGetPerformanceState nvmlDeviceGetPowerState", handle),
        "power_w": power_mw / 1000 if power_mw is not None else None,
        "power_limit_w": limit_mw / 1000 if limit_mw is not None else None,
        "temperature_c": ask(
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

    if not cuda_started():
        return []
    memory = [torch.cuda.mem_get_info(index) for index in range(torch.cuda.device_count())]
    return [
        {"index": None, "cuda_device": index, "memory_used_mib": (total - free) // MIB}
        for index, (free, total) in enumerate(memory)
    ]
