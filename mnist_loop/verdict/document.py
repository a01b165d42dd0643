"""A report as a document for programs: JSON with keys that stay."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from mnist_loop.verdict.report import Diagnosed, Report, Row

if TYPE_CHECKING:
    from mnist_loop.verdict.report import Diagnosed, Report, Row

KEYS = {"schema", "loop", "verdict", "exit_code", "diagnoses", "laws"}  # some that every document has
SCHEMA = 1  # one more where a key goes or changes its meaning; not for a new one


def document(report: Report) -> dict[str, Any]:
    """Return the report as plain data: texts, numbers, lists and dicts. docs/verify.md says what the keys mean."""
    verdict, description = report.verdict, report.verdict.description
    return {
        "schema": SCHEMA,
        "loop": verdict.name,
        "file": description.file,
        "evaluation": {
            "found": description.found_evaluate_by,
            "name": report.asked.evaluate or description.evaluate_name,
        },
        "verdict": report.result,
        "exit_code": report.exit_code,
        "primary": verdict.primary,
        "diagnoses": [_diagnosis(diagnosed) for diagnosed in report.diagnoses],
        "laws": [_law(row) for row in report.rows],
        "expected": [
            {
                "id": entry.id,
                "reason": entry.reason,
                "file": entry.file,
                "line": entry.line,
                "occurred": entry not in report.held_though_expected,
            }
            for entry in report.expected.values()
        ],
        "skipped": [{"case": dataclasses.asdict(case), "reason": why} for case, why in verdict.skipped.items()],
        "not_isolated": verdict.not_isolated or None,
        "output": verdict.output,
        "environment": report.environment,
    }


def as_json(report: Report) -> str:
    """Return the document as text. It is ASCII and strict JSON: a number that JSON lacks is "nan" or "inf"."""
    return json.dumps(_finite(document(report)), indent=2, allow_nan=False) + "\n"


def is_document(content: bytes) -> bool:
    """Tell whether a file with this content holds a document of ours."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() >= KEYS


def _diagnosis(diagnosed: Diagnosed) -> dict[str, Any]:
    return {
        "id": diagnosed.bug.id,
        "severity": diagnosed.bug.severity,
        "title": diagnosed.bug.title,
        "text": diagnosed.text,
        "hint": diagnosed.bug.hint,
        "case": dataclasses.asdict(diagnosed.case),
        "snippet": diagnosed.snippet,
        "count": diagnosed.count,
        "consequences": [{"id": finding.id, "text": finding.text} for finding in diagnosed.consequences],
        "location": None if diagnosed.location is None else dataclasses.asdict(diagnosed.location),
        "expected": diagnosed.expected is not None,
    }


def _law(row: Row) -> dict[str, Any]:
    return {"id": row.bug.id, "status": row.status, "cases": row.cases, "reason": row.reason or None}


def _finite(value: Any) -> Any:
    """Return plain data in which each number is finite."""
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
