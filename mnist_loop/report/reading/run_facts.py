"""What sweeps and comparisons tell alike of a run: the machine, its ruler, its software and its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_loop.report.reading.node import Node
from mnist_loop.report.reading.text import clean
from mnist_loop.report.stored import Machine, RulerResult

MOST_FACTS = 100
LONGEST_NAME = 60
MOST_GPUS = 64
# What is worth reading of the state, in words for people, and the way to it.
STATE = {
    "load average": ("cpu", "load_average"),
    "CPUs available": ("cpu", "available_cpus"),
    "CPU quota": ("cpu", "quota_cpus"),
    "CPU governor": ("cpu", "governor"),
    "float32 products": ("torch", "float32_matmul_precision"),
    "TF32 products": ("torch", "cuda_matmul_allow_tf32"),
    "deterministic algorithms": ("torch", "deterministic_algorithms"),
    "preloaded": ("preload",),
}


def read_machine(identity: Node, name: str | None) -> Machine:
    """Return the machine that an identity describes; ``name`` is that for files, where one is stored."""
    cpu = identity["cpu"].text_or_none()
    gpus = [] if identity["gpus"].missing else list(identity["gpus"])[:MOST_GPUS]
    return Machine(
        name=name or cpu or "unknown machine",
        hash=identity["hash"].text_or_none(),
        cpu=cpu,
        logical_cores=identity["logical_cores"].count_or_none(),
        memory_gib=identity["memory_gib"].count_or_none(),
        system=identity["system"].text_or_none(),
        gpus=tuple(gpu["name"].text_or_none() or "unknown GPU" for gpu in gpus),
    )


def read_ruler(node: Node) -> RulerResult:
    """Return what the machine can do."""
    return RulerResult(node["gemm"].positive(), node["copy"].positive(), node["dispatch"].positive())


def read_texts(node: Node) -> dict[str, str]:
    """Return names and what they stand for as text; what is no single value, or not known, is left out."""
    if node.missing:
        return {}
    node["any"]  # which refuses what has no names
    # Made harmless, two names can be the same: the first holds.
    found: dict[str, str] = {}
    for name, value in list(node.value.items())[:MOST_FACTS]:
        text = _text(value)
        if text and clean(name, LONGEST_NAME):
            found.setdefault(clean(name, LONGEST_NAME), text)
    return found


def state_facts(value: Any) -> dict[str, str]:
    """Return what is worth reading of a state, name to value; what is not there, or odd, is left out."""
    found: dict[str, str] = {}
    for name, way in STATE.items():
        here = value
        for key in way:
            here = here.get(key) if isinstance(here, Mapping) else None
        if isinstance(here, list):
            here = here[0] if way[-1] == "load_average" and here else ", ".join(map(_text, here[:MOST_FACTS]))
        if text := _text(here):
            found[name] = text
    settings = value.get("settings") if isinstance(value, Mapping) else None
    return found | (read_texts(Node(settings)) if isinstance(settings, dict) else {})


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else ""
    return clean(value) if isinstance(value, str) else ""
