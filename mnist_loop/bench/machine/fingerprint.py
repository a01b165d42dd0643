"""The identity of the machine, its hash, and the name that it gives to files."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from functools import cache
from importlib import import_module

import psutil

from mnist_loop.bench.machine.asking import Facts, told
from mnist_loop.bench.machine.cpus import logical_cores
from mnist_loop.bench.machine.cuda import cuda_name
from mnist_loop.bench.machine.gpus import gpu_identity

GIB = 2**30

HASH_DIGITS = 12  # 48 bits: the chance that any two of a million machines share one is 1 in 560
NAME_DIGITS = 6  # tell the machines of a folder apart; the whole hash is in the result
NAME_WORDS_LENGTH = 48  # characters of the model, of the 255 of a file name


def identity() -> Facts:
    """Return what stays the same on this machine, and its hash.

    Keys: ``cpu`` (model), ``architecture``, ``physical_cores``, ``logical_cores``, ``memory_gib`` (rounded
    up), ``system``, ``gpus`` (a list of ``name``, ``memory_mib``, ``compute_capability``), ``gpu_driver``,
    and ``hash``: the SHA-256 of the other keys, shortened. Counts are those of the machine, not of the process's
    affinity and control groups. GPUs are all that NVML lists; without NVML, those that torch sees.
    """
    gpus, driver = gpu_identity()
    facts: Facts = {
        "cpu": _cpu_model(),
        "architecture": platform.machine() or None,
        "physical_cores": told(lambda: psutil.cpu_count(logical=False)),
        "logical_cores": logical_cores(),
        # The kernel shows less than is built in, by an amount that differs between releases: 15.5 of 16 GiB.
        "memory_gib": told(lambda: math.ceil(psutil.virtual_memory().total / GIB)),
        "system": platform.system() or None,
        "gpus": gpus,
        "gpu_driver": driver,
    }
    return facts | {"hash": _digest(facts)}


def label(device: str = "cpu") -> str:
    """Return a name for files: model, number of CPUs or kind of device, start of the hash.

    ``intel-xeon-processor-2cpu-1a2b3c`` for the CPU, ``nvidia-h200-1a2b3c`` for ``"cuda"`` or ``"cuda:0"``,
    ``apple-m2-mps-1a2b3c`` for other devices. Lower-case letters, digits and hyphens alone.
    """
    facts = identity()
    kind, _, index = device.partition(":")
    model, detail = facts["cpu"], kind
    if kind == "cuda":
        model, detail = cuda_name(int(index or 0), facts["gpus"]), ""
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


@cache  # py-cpuinfo starts a process: about a second
def _cpu_model() -> str | None:
    try:
        model = import_module("cpuinfo").get_cpu_info().get("brand_raw")
    except (ImportError, OSError, ValueError):
        model = None  # it is not installed, may start no process, or its process printed no JSON
    return " ".join(str(model or platform.processor() or "").split()) or None
