"""Devices: chosen by name, and waited for."""

from __future__ import annotations

import torch

from mnist_loop.errors import UserError


def resolve_device(name: str = "auto") -> torch.device:
    """Turn ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"`` into a device that is there.

    ``"auto"`` is CUDA where it is, else MPS, else the CPU.

    Raises:
        UserError: no such device, or not on this machine.
    """
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r}: not known, expected auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            why = "this torch is built without CUDA" if torch.version.cuda is None else f"{count} CUDA devices found"
            raise UserError(f"device {name!r}: not on this machine ({why}), expected auto or cpu")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise UserError(f"device {name!r}: not on this machine, expected auto or cpu")
    elif device.type != "cpu":
        raise UserError(f"device {name!r}: not supported, expected auto, cpu, cuda, cuda:N or mps")
    return device


def synchronise(device: torch.device) -> None:
    """Wait until ``device`` has done all that it was given; the CPU has already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
