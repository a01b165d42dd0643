"""What the formats for programs say of a diagnosis: its message, and where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_loop.verdict.diagnosis import Diagnosis
    from mnist_loop.verdict.verdict import Verdict


def evidence(verdict: Verdict, found: Diagnosis) -> str:
    """Return the evidence, the fix, the consequences and the smallest case, a line each."""
    lines = [found.finding.text, f"Most likely: {found.hint}."]
    if found.consequences:
        lines.append(f"Consequences: {', '.join(consequence.id for consequence in found.consequences)}")
    if found.finding.case is not None:
        lines.append(f"Loop: {verdict.name}. Smallest case: {found.finding.case!r}")
    return "\n".join(lines)


def place(verdict: Verdict, found: Diagnosis) -> tuple[str | None, int | None]:
    """Return the file and the line: where the bug most likely is, or else where the loop begins."""
    line = verdict.likely_line(found)
    if line is not None:
        return line.file, line.line
    return verdict.file, verdict.lines[0] if verdict.file is not None and verdict.lines is not None else None
