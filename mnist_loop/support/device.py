"""Devices: selection by name, and synchronisation."""

from __future__ import annotations

import re

import torch

from mnist_loop.errors import UserError


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device named ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    ``"auto"`` is CUDA if available, else MPS if available, else the CPU.

    Raises:
        UserError: the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    # torch keeps eight bits of the index, so it would take cuda:256 for cuda:0.
    known = re.fullmatch(r"cpu|mps|cuda(?::([0-9]+))?", name)
    if known is None:
        raise UserError(f"device {name!r}: not supported, expected auto, cpu, cuda, cuda:N or mps")
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(known[1] or 0) >= count:
            built = torch.backends.cuda.is_built()
            why = f"{count} CUDA devices found" if built else "this torch is built without CUDA"
            raise UserError(f"device {name!r}: not on this machine ({why}), expected auto or cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device {name!r}: not on this machine, expected auto or cpu")
    return torch.device(name)


def synchronise(device: torch.device) -> None:
    """Wait until ``device`` has finished its work. The CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
