"""NVML, through which the NVIDIA driver is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


@contextmanager
def nvml_session() -> Iterator[Any]:
    """Yield the started ``pynvml`` module, or None where there is no NVML; shut it down at the end."""
    nvml = _started_nvml()
    try:
        yield nvml
    finally:
        if nvml is not None:
            ask(nvml, "nvmlShutdown")


def _started_nvml() -> Any:
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None  # no NVIDIA driver, or another version than its library
    return nvml


def ask(nvml: Any, functions: str, *arguments: Any) -> Any:
    """Return the answer of the first of ``functions`` that has one; None where none has.

    Several names, separated by a space, are the newer and the older name of one question. Some drivers and bindings
    know one of them.
    """
    for function in functions.split():
        question = getattr(nvml, function, None)
        if question is None:
            continue
        try:
            return question(*arguments)
        except nvml.NVMLError:
            continue  # many cards do not support single questions
    return None


def gpu_handles(nvml: Any) -> list[tuple[int, Any]]:
    """Return index and handle of each GPU; one without a handle, which the driver has lost, is left out."""
    count = ask(nvml, "nvmlDeviceGetCount") or 0
    found = [(index, ask(nvml, "nvmlDeviceGetHandleByIndex", index)) for index in range(count)]
    return [(index, handle) for index, handle in found if handle is not None]
