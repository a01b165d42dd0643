"""What ``--list`` and ``--explain`` show, without torch: the laws are read from their source, not imported."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from mnist_loop.bugs import BUGS, SUBJECTS, Bug
from mnist_loop.verdict.layout import Line, Page, Table, lines_of
from mnist_loop.verification import laws

SEVERITY_STYLES = {"bug": "bad", "cost": "warn", "info": "warn"}


def listing() -> Page:
    """Yield all bugs by subject: id, severity and what is wrong; then why those are not decided that are not."""
    for subject in SUBJECTS:
        bugs = [bug for bug in BUGS.values() if bug.subject == subject]
        yield Line(subject, "strong")
        yield Table(
            [(bug.id, bug.severity, bug.title) for bug in bugs],
            ["faint" if bug.undecided else SEVERITY_STYLES[bug.severity] for bug in bugs],
        )
        yield Line()
    undecided = [bug for bug in BUGS.values() if bug.undecided]
    yield Line("not decided by any run", "strong")
    yield Table([(bug.id, bug.undecided) for bug in undecided], ["faint"] * len(undecided))


def explanation(bug: Bug) -> Page:
    """Yield all that is known of a bug."""
    yield Line(f"{bug.id}: {bug.title}", "strong")
    yield Line(f"{bug.severity}, {bug.subject}", "faint")
    for name, text in (
        ("The law", law_texts().get(bug.id, "")),
        ("How it shows", bug.symptom),
        ("Needs", f"{bug.needs}." if bug.needs else ""),
        ("Not decided", bug.undecided),
    ):
        if text:
            yield Line()
            yield Line(f"{name}: {text}")
    yield from (Line(), Line("Broken:"), *lines_of(bug.broken, indent=4, verbatim=True))
    yield from (Line(), Line(f"Fixed: {bug.hint}."), *lines_of(bug.fixed, indent=4, verbatim=True))
    if bug.reported:
        yield from (Line(), Line("Reported in:"), *(Line(address, indent=4, verbatim=True) for address in bug.reported))


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
