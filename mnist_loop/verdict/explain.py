"""What ``--list`` and ``--explain`` show, without torch: the laws are read from their source, not imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mnist_loop.bugs import BUGS, SUBJECTS, Bug
from mnist_loop.support.console import Block, Paragraph, Styled, TextTable, paragraphs
from mnist_loop.verification import laws

SEVERITY_STYLES = {"bug": "bad", "cost": "warn", "info": "warn"}


def listing() -> Iterator[Block]:
    """Yield all bugs by subject: id, severity and what is wrong; then why those are not decided that are not."""
    for subject in SUBJECTS:
        bugs = [bug for bug in BUGS.values() if bug.subject == subject]
        yield Paragraph(subject, "strong")
        styles = ["faint" if bug.undecided else SEVERITY_STYLES[bug.severity] for bug in bugs]
        rows = zip(bugs, styles, strict=True)
        yield TextTable([(Styled(bug.id, style), bug.severity, bug.title) for bug, style in rows], indent=2)
        yield Paragraph()
    undecided = [bug for bug in BUGS.values() if bug.undecided]
    yield Paragraph("not decided by any run", "strong")
    yield TextTable([(Styled(bug.id, "faint"), bug.undecided) for bug in undecided], indent=2)


def explanation(bug: Bug) -> Iterator[Block]:
    """Yield all that is known of a bug."""
    yield Paragraph(f"{bug.id}: {bug.title}", "strong")
    yield Paragraph(f"{bug.severity}, {bug.subject}", "faint")
    for name, text in (
        ("The law", law_texts().get(bug.id, "")),
        ("How it shows", bug.symptom),
        ("Needs", f"{bug.needs}." if bug.needs else ""),
        ("Not decided", bug.undecided),
    ):
        if text:
            yield Paragraph()
            yield Paragraph(f"{name}: {text}")
    yield from (Paragraph(), Paragraph("Broken:"), *paragraphs(bug.broken, indent=4, verbatim=True))
    yield from (Paragraph(), Paragraph(f"Fixed: {bug.hint}."), *paragraphs(bug.fixed, indent=4, verbatim=True))
    if bug.reported:
        yield from (
            Paragraph(),
            Paragraph("Reported in:"),
            *(Paragraph(address, indent=4, verbatim=True) for address in bug.reported),
        )


@cache
def law_texts() -> dict[str, str]:
    """Return the text of each law, by the id of its bug."""
    found = {}
    for file in sorted(Path(laws.__path__[0]).glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                match decorator:
                    case ast.Call(func=ast.Name(id="law"), args=[ast.Constant(value=str(id_)), *_]):
                        found[id_] = " ".join((ast.get_docstring(node) or "").split())
    return found
