"""The version of a stored file's layout: one that this version cannot read is refused with what to do."""

from __future__ import annotations

from typing import Any

from mnist_loop.report.reading.node import InvalidResult, Node

SWEEP_SCHEMA = 2
SECTION = "mnist_loop"
LAST_OF_SCHEMA_1 = "0.1.0"


def sweep_section(stored: Any) -> Node:
    """Return the section of a sweep's document that says where and with what it was measured.

    Raises:
        InvalidResult: it is no result of this suite, or of another schema.
    """
    if not isinstance(stored, dict) or not isinstance(stored.get("benchmarks"), list):
        raise InvalidResult("JSON of another kind: expected a result that mnist-loop stored")
    if SECTION not in stored:
        raise InvalidResult(f"has no section {SECTION}: expected a result that mnist-loop stored")
    section = Node(stored[SECTION], SECTION)
    schema = section["schema"].count(most=10**6)
    if schema > SWEEP_SCHEMA:
        raise newer(schema, SWEEP_SCHEMA)
    if schema < SWEEP_SCHEMA:
        raise InvalidResult(
            f"written in schema {schema}, which mnist_loop {LAST_OF_SCHEMA_1} reads and this version does not: "
            "report it with that version, or measure again"
        )
    return section


def newer(schema: int, newest: int) -> InvalidResult:
    """Return the error for a file that a newer version wrote."""
    return InvalidResult(f"written by a newer mnist_loop (schema {schema}; this one reads up to {newest}): update it")
