"""Reads what sweeps and comparisons store alike: machine, ruler, software and state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnist_loop.report.reading.node import Node
from mnist_loop.report.reading.text import clean
from mnist_loop.report.stored import Machine, RulerResult

MOST_FACTS = 100
LONGEST_NAME = 60
MOST_GPUS = 64
# The facts of the state that are reported: name, and path in the file.
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
    """Return the machine of an identity; ``name`` is its stored name, if there is one."""
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
    """Return the ruler."""
    return RulerResult(node["gemm"].positive(), node["copy"].positive(), node["dispatch"].positive())


def read_texts(node: Node) -> dict[str, str]:
    """Return names with their values as text; lists, objects and missing values are left out."""
    if node.missing:
        return {}
    node["any"]  # raises where this is no object
    # Two names may be equal once they are cleaned: the first is kept.
    found: dict[str, str] = {}
    for name, value in list(node.value.items())[:MOST_FACTS]:
        text = _text(value)
        if text and clean(name, LONGEST_NAME):
            found.setdefault(clean(name, LONGEST_NAME), text)
    return found


def state_facts(value: Any) -> dict[str, str]:
    """Return the facts of a state, name to value; missing and invalid ones are left out."""
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
