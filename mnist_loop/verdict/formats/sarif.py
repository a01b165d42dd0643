"""A verdict as SARIF 2.1.0, which code scanning and editors read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mnist_loop.support.console import plain_text
from mnist_loop.verdict.document import finite
from mnist_loop.verdict.explain import explanation
from mnist_loop.verdict.formats.evidence import evidence, place
from mnist_loop.verdict.location import shown_path
from mnist_loop.verdict.text import held_though_expected, summary

if TYPE_CHECKING:
    from mnist_loop.bugs import Bug
    from mnist_loop.verdict.diagnosis import Diagnosis
    from mnist_loop.verdict.verdict import Verdict

VERSION = "2.1.0"
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
DRIVER = "mnist-loop"
LEVELS = {"bug": "error", "cost": "warning", "info": "note"}  # by severity


def as_sarif(verdict: Verdict) -> str:
    """Return a log of one run: a rule for each law, a result for each diagnosis."""
    log = {"$schema": SCHEMA, "version": VERSION, "runs": [_run(verdict)]}
    return json.dumps(finite(log), indent=2, allow_nan=False) + "\n"


def is_sarif(content: bytes) -> bool:
    """Tell whether a file with this content holds a log of ours."""
    try:
        return bool(json.loads(content)["runs"][0]["tool"]["driver"]["name"] == DRIVER)
    except (ValueError, RecursionError, LookupError, TypeError):
        return False


def _run(verdict: Verdict) -> dict[str, Any]:
    from mnist_loop import __version__

    rules = {law.bug.id: number for number, law in enumerate(verdict.laws)}
    for found in verdict.diagnoses:
        rules.setdefault(found.id, len(rules))
    bugs = {law.bug.id: law.bug for law in verdict.laws} | {found.id: found.bug for found in verdict.diagnoses}
    return {
        "tool": {
            "driver": {
                "name": DRIVER,
                "version": __version__,
                "semanticVersion": __version__,
                "rules": [_rule(bugs[id_]) for id_ in rules],
            }
        },
        "automationDetails": {"id": f"{DRIVER}/{verdict.tool}/{quote(verdict.name)}/"},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": verdict.result != "nothing-run",
                "exitCode": verdict.exit_code,
                "toolExecutionNotifications": _notifications(verdict),
            }
        ],
        "results": [_result(verdict, found, rules[found.id]) for found in verdict.diagnoses],
        "properties": {
            "verdict": verdict.result,
            "summary": summary(verdict),
            "watched": verdict.watched,
            "environment": verdict.environment,
        },
    }


def _rule(bug: Bug) -> dict[str, Any]:
    told = plain_text(explanation(bug))
    rule = {
        "id": bug.id,
        "shortDescription": {"text": bug.title},
        "fullDescription": {"text": bug.symptom},
        "help": {"text": told, "markdown": _markdown(bug)},
        "defaultConfiguration": {"level": LEVELS[bug.severity]},
        "properties": {"tags": [bug.subject]},
    }
    return {**rule, "helpUri": bug.reported[0]} if bug.reported else rule


def _markdown(bug: Bug) -> str:
    parts = [bug.law, bug.symptom, f"```python\n{bug.broken}\n```", f"Fix: {bug.hint}.", f"```python\n{bug.fixed}\n```"]
    parts += [f"Reported: {', '.join(f'<{address}>' for address in bug.reported)}"] if bug.reported else []
    return "\n\n".join(part for part in parts if part)


def _result(verdict: Verdict, found: Diagnosis, rule: int) -> dict[str, Any]:
    file, line = place(verdict, found)
    likely = verdict.likely_line(found)
    text = verdict.name if likely is None else likely.text.strip()
    shown = "" if file is None else shown_path(file)
    # The line's text and not its number: it stays the same finding where lines are added above it.
    fingerprint = hashlib.sha256(f"{found.id}\0{shown}\0{text}".encode(errors="backslashreplace")).hexdigest()
    result: dict[str, Any] = {
        "ruleId": found.id,
        "ruleIndex": rule,
        "level": LEVELS[found.severity],
        "message": {"text": evidence(verdict, found)},
        "partialFingerprints": {"mnistLoopFinding/v1": fingerprint},
        "properties": {"cases": found.count},
    }
    location: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": verdict.name}]}
    if file is not None:
        physical: dict[str, Any] = {"artifactLocation": _artifact(file)}
        if line is not None:
            physical["region"] = {"startLine": line}
            if likely is not None:
                physical["region"]["snippet"] = {"text": likely.text}
        location["physicalLocation"] = physical
    result["locations"] = [location]
    if found.id in verdict.expected:
        entry = verdict.expected[found.id]
        result["suppressions"] = [{"kind": "external", "justification": f"{entry.where}: {entry.reason}"}]
    elif found.ignored:
        kind = "external" if verdict.ignore.get(found.id) else "inSource"
        result["suppressions"] = [{"kind": kind, "justification": f"ignored: {found.ignored}"}]
    return result


def _artifact(file: str) -> dict[str, str]:
    shown = shown_path(file)
    if Path(shown).is_absolute():
        return {"uri": Path(shown).as_uri()}
    return {"uri": quote(shown), "uriBaseId": "%SRCROOT%"}


def _notifications(verdict: Verdict) -> list[dict[str, Any]]:
    """Return what fails or is told beside the diagnoses."""
    errors = [f"{entry.where}: {entry.id}: {instead}" for entry, instead in held_though_expected(verdict)]
    if verdict.result == "nothing-run":
        errors.append(summary(verdict))
    told = [(text, "error") for text in errors] + [(text, "warning") for text in verdict.notes]
    return [{"level": level, "message": {"text": text}} for text, level in told]
