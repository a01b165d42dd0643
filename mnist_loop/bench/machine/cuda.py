"""The number and the name of a GPU in CUDA, whose order is not NVML's."""

from __future__ import annotations

import os
from typing import Any

from mnist_loop.bench.machine.asking import Facts, told
from mnist_loop.bench.machine.nvml import ask


def cuda_numbers(nvml: Any, handles: list[tuple[int, Any]]) -> dict[int, int]:
    """Return the CUDA number of each NVML index; GPUs that this process may not use are left out.

    By UUID where torch tells it (from 2.5 on, once CUDA is started), else by ``CUDA_VISIBLE_DEVICES``.
    """
    uuids = {index: _bare(ask(nvml, "nvmlDeviceGetUUID", handle) or "") for index, handle in handles}
    by_torch = told(_torch_uuids)
    if by_torch is not None:
        return {index: by_torch.index(uuid) for index, uuid in uuids.items() if uuid in by_torch}
    models = {ask(nvml, "nvmlDeviceGetName", handle) for _, handle in handles}
    if len(models) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        return {}  # CUDA puts the GPU first that it holds for the fastest, NVML orders by bus
    return {index: number for number, index in enumerate(_visible(uuids))}


def _torch_uuids() -> list[str] | None:
    import torch

    if not cuda_started():
        return None
    known = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [_bare(str(gpu.uuid)) for gpu in known]


def cuda_started() -> bool:
    """Whether this process uses CUDA already; any other question would start it and take memory on the card."""
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


def cuda_name(number: int, gpus: list[Facts]) -> str | None:
    """Return the model of a CUDA device: as torch says, else the one that NVML lists in its place."""

    def by_torch() -> str | None:
        import torch

        return torch.cuda.get_device_name(number) if torch.cuda.is_available() else None

    return told(by_torch) or (gpus[number]["name"] if number < len(gpus) else None)
