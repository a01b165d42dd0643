"""What ``--list`` and ``--explain`` show, without torch."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.bugs import BUGS, SUBJECTS, Bug
from mnist_loop.support.console import Block, Paragraph, Styled, TextTable, paragraphs

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
        ("The law", bug.law),
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
