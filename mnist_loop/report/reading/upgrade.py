"""Documents of older versions of the suite, brought up to the newest schema, one step a version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mnist_loop.report.reading.node import Misfit, Node

NEWEST = 2
SECTION = "mnist_loop"


def upgrade(stored: Any) -> dict[str, Any]:
    """Return a document of any schema so far as one of the newest.

    Raises:
        Misfit: it is no result of this suite, or of a schema that is newer than this version.
    """
    if not isinstance(stored, dict) or not isinstance(stored.get("benchmarks"), list):
        raise Misfit("JSON of another kind: expected a result that mnist-loop stored")
    document: dict[str, Any] = stored
    schema = _schema(document)
    while schema < NEWEST:
        document = STEPS[schema](document)
        schema += 1
    return document


def newer(schema: int, newest: int) -> Misfit:
    """Return the error for a file that a newer version wrote."""
    return Misfit(f"written by a newer mnist_loop (schema {schema}; this one reads up to {newest}): update it")


def _schema(document: dict[str, Any]) -> int:
    if SECTION not in document:
        return 0
    schema = Node(document[SECTION], SECTION)["schema"].count(most=10**6)
    if schema > NEWEST:
        raise newer(schema, NEWEST)
    return schema


def _section_from_pytest_benchmark(document: dict[str, Any]) -> dict[str, Any]:
    """Make the section of what pytest-benchmark, since its version 3, says of the machine in words of its own."""
    info = document.get("machine_info")
    info = dict(info) if isinstance(info, dict) else {}
    cpu = info.get("cpu")
    software = info.get("software")
    if not isinstance(software, dict):
        software = {"python": info.get("python_version"), "implementation": info.get("python_implementation")}
    identity = {**info, "architecture": info.get("architecture", info.get("machine"))}
    if isinstance(cpu, dict):  # what py-cpuinfo says; its older versions spelt the model otherwise
        identity |= {"cpu": cpu.get("brand_raw", cpu.get("brand")), "logical_cores": cpu.get("count")}
    # The node is a host name there, which is nobody's business.
    ours = {key: value for key, value in info.items() if key == "node" and "hash" in info}
    return {**document, "machine_info": ours, SECTION: {"schema": 1, "identity": identity, "software": software}}


def _ruler_and_dtype(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 measured in float32 alone, and without a ruler."""
    return {**document, SECTION: {**document[SECTION], "schema": 2, "dtype": "float32", "ruler": {}}}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    0: _section_from_pytest_benchmark,
    1: _ruler_and_dtype,
}
