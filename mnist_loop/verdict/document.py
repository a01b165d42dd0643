"""A verdict as a document for programs: JSON with keys that stay."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_loop.verdict.diagnosis import Diagnosis
    from mnist_loop.verdict.verdict import LawResult, Verdict

KEYS = {"schema", "loop", "verdict", "exit_code", "diagnoses", "laws"}  # some that every document has
SCHEMA = 1  # rises when a key goes or changes its meaning, not when one is added


def document(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as texts, numbers, lists and dicts. docs/verify.md says what the keys mean."""
    return {
        "schema": SCHEMA,
        "tool": verdict.tool,
        "loop": verdict.name,
        "file": verdict.file,
        "evaluation": {
            "found": verdict.found_evaluate_by,
            "name": verdict.asked.evaluate or verdict.evaluate_name,
        },
        "verdict": verdict.result,
        "exit_code": verdict.exit_code,
        "watched": verdict.watched or None,
        "primary": verdict.primary,
        "diagnoses": [_diagnosis(verdict, diagnosis) for diagnosis in verdict.diagnoses],
        "laws": [_law(law) for law in verdict.laws],
        "expected": [
            {**dataclasses.asdict(entry), "occurred": entry not in verdict.held_though_expected}
            for entry in verdict.expected.values()
        ],
        "notes": verdict.notes,
        "skipped": [{"case": dataclasses.asdict(case), "reason": why} for case, why in verdict.skipped.items()],
        "not_isolated": verdict.not_isolated or None,
        "output": verdict.output,
        "environment": verdict.environment,
    }


def as_json(verdict: Verdict) -> str:
    """Return the document as text. It is ASCII and strict JSON: a number that JSON lacks is "nan" or "inf"."""
    return json.dumps(finite(document(verdict)), indent=2, allow_nan=False) + "\n"


def is_document(content: bytes) -> bool:
    """Tell whether a file with this content holds a document of ours."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() >= KEYS


def _diagnosis(verdict: Verdict, diagnosis: Diagnosis) -> dict[str, Any]:
    bug, finding, line = diagnosis.bug, diagnosis.finding, verdict.likely_line(diagnosis)
    return {
        "id": bug.id,
        "severity": diagnosis.severity,
        "title": bug.title,
        "text": finding.text,
        "hint": diagnosis.hint,
        "case": None if finding.case is None else dataclasses.asdict(finding.case),
        "snippet": verdict.snippet(diagnosis),
        "count": diagnosis.count,
        "consequences": [{"id": finding.id, "text": finding.text} for finding in diagnosis.consequences],
        "location": None if line is None else dataclasses.asdict(line),
        "expected": bug.id in verdict.expected,
        "ignored": diagnosis.ignored or None,
    }


def _law(law: LawResult) -> dict[str, Any]:
    return {"id": law.bug.id, "status": law.status, "cases": law.cases, "reason": law.reason or None}


def finite(value: Any) -> Any:
    """Return plain data in which each number is finite."""
    if isinstance(value, dict):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
