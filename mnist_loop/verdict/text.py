"""A verdict as text: a header, the diagnoses, the count, and a line for each law where that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mnist_loop.bugs import SUBJECTS
from mnist_loop.support.console import Block, Paragraph, Styled, TextTable, paragraphs
from mnist_loop.verdict.finding import ENDED

if TYPE_CHECKING:
    from mnist_loop.verdict.diagnosis import Diagnosis
    from mnist_loop.verdict.expected import Expected
    from mnist_loop.verdict.verdict import LawResult, Verdict

REMINDER = "This says nothing beyond the laws that ran: a loop that keeps them all can still be wrong in other ways."
SEVERITY_STYLES = {"bug": "bad", "cost": "warn", "info": "warn"}
LAST_OUTPUT = 5  # lines, of a loop that did not come back


def page(verdict: Verdict, *, every_law: bool = False) -> Iterator[Block]:
    """Yield what is shown of a verdict.

    The laws have a line each with ``every_law``, for a verification of chosen laws, and where none could be decided.
    """
    if verdict.tool == "verify":
        yield Paragraph(header(verdict), "strong")
    if verdict.not_isolated:
        yield Paragraph(f"run in this process: {verdict.not_isolated}", "warn")
    for case, reason in verdict.skipped.items():
        yield Paragraph(f"left out: {case!r}: {reason}", "faint")
    if verdict.tool == "verify":
        yield Paragraph()
    for found in verdict.diagnoses:
        yield from diagnosis(verdict, found)
    yield from _last_output(verdict)
    yield from _held_though_expected(verdict)
    yield from (Paragraph(note, "warn") for note in verdict.notes)
    if verdict.watched:
        yield Paragraph(f"watched: {verdict.watched}")
    yield Paragraph(summary(verdict), "good" if verdict.exit_code == 0 else "bad")
    yield Paragraph(REMINDER, "faint")
    if every_law or verdict.asked.only is not None or (verdict.tool == "verify" and verdict.result == "nothing-run"):
        yield Paragraph()
        yield from _laws(verdict)


def is_page(content: bytes) -> bool:
    """Tell whether a file with this content holds a verdict as text."""
    return f"\n{REMINDER}\n" in content.decode(errors="replace")


def header(verdict: Verdict) -> str:
    """Return the line that says what was judged, and where."""
    facts = (
        f"loop: {verdict.name}",
        f"evaluation: {_evaluation(verdict)}",
        f"torch {verdict.environment['torch']}",
        str(verdict.environment["device"]),
        _cases(verdict),
        f"{verdict.seconds:.1f} s",
    )
    return " · ".join(facts)


def diagnosis(verdict: Verdict, found: Diagnosis) -> Iterator[Paragraph]:
    """Yield the lines of one diagnosis: evidence, fix, place, consequences, case."""
    bug, finding, expected = found.bug, found.finding, verdict.expected.get(found.id)
    if found.ignored:
        yield Paragraph(f"{bug.id}: {bug.title} (ignored: {found.ignored})", "faint")
        yield Paragraph()
        return
    kind = "" if found.severity == "bug" else f" ({found.severity})"
    if expected is not None:
        kind = f" (expected: {expected.reason})"
    yield Paragraph(f"{bug.id}: {bug.title}{kind}", SEVERITY_STYLES[found.severity] if expected is None else "warn")
    yield from paragraphs(finding.text, indent=2)
    yield Paragraph(f"Most likely: {found.hint}.", indent=2)
    line = verdict.likely_line(found)
    if line is not None:
        yield Paragraph(f"{line.place}: {line.text}", indent=2, verbatim=True)
    if found.consequences:
        yield Paragraph(f"Consequences: {', '.join(consequence.id for consequence in found.consequences)}", indent=2)
    if finding.case is not None:
        of = f"of {found.count} that show it" if found.count > 1 else "the only one that shows it"
        yield Paragraph(f"Smallest case: {finding.case!r}, {of}. To see it again:", indent=2)
        yield from paragraphs(verdict.snippet(found), "faint", indent=6, verbatim=True)
    yield Paragraph(f"mnist-loop verify --explain {bug.id}", indent=2, verbatim=True)
    yield Paragraph()


def summary(verdict: Verdict) -> str:
    """Return the last line: the number of bugs, of laws that hold, and of laws that were not run."""
    left = [law.asked_for for law in verdict.laws_that("not-run")]
    not_run = f"{left.count(True)} not run" + (f", {left.count(False)} not asked for" if not all(left) else "")
    if verdict.result == "nothing-run":
        return f"nothing was run: no law could be decided, {not_run}"
    parts = [_count(len(verdict.unexpected()), "bug")]
    parts += [_count(n, name) for name in ("cost", "info") if (n := len(verdict.unexpected(name)))]
    if expected := sum(found.id in verdict.expected for found in verdict.diagnoses):
        parts.append(_count(expected, "expected failure"))
    if ignored := sum(bool(found.ignored) for found in verdict.diagnoses):
        parts.append(f"{ignored} ignored")
    if held := len(verdict.held_though_expected):
        parts.append(f"{held} expected but not found")
    holding = len(verdict.laws_that("held"))
    return ", ".join([*parts, f"{holding} law{' holds' if holding == 1 else 's hold'}", not_run])


def _evaluation(verdict: Verdict) -> str:
    if verdict.found_evaluate_by is None:
        return "none"
    name = verdict.asked.evaluate or verdict.evaluate_name
    if verdict.found_evaluate_by == "beside":
        return "found beside it" if name is None else f"{name} (found beside it)"
    return name or "as declared"


def _cases(verdict: Verdict) -> str:
    judged, drawn = len(verdict.judgements), verdict.random_cases
    cases = _count(judged, "case")
    if not drawn:
        return cases
    if verdict.bugs:  # the search ended there: not every case that was drawn is among those judged
        return f"{cases} (the fixed ones, then random ones from seed {verdict.seed} until a bug showed)"
    return f"{cases} ({judged - drawn} fixed, {drawn} random from seed {verdict.seed})"


def _laws(verdict: Verdict) -> Iterator[Block]:
    shown = [law for law in verdict.laws if law.asked_for]
    width = max((len(law.bug.id) for law in shown), default=0)  # one for all subjects
    for subject in SUBJECTS:
        laws = [law for law in shown if law.bug.subject == subject]
        if laws:
            yield Paragraph(subject, "strong")
            yield TextTable([_cells(law, width) for law in laws], indent=2)


def _cells(law: LawResult, width: int) -> tuple[Styled, str, str]:
    if law.status == "not-run":
        return Styled("not run", "faint"), law.bug.id.ljust(width), law.reason
    detail = f"in {_count(law.cases, 'case')}"
    if law.status == "broken" and law.bug.severity != "bug":
        detail += f" ({law.bug.severity})"
    if law.reason:
        detail += f", a consequence of {law.reason}"
    style = "good" if law.status == "held" else SEVERITY_STYLES[law.bug.severity]
    return Styled(law.status.ljust(len("not run")), style), law.bug.id.ljust(width), detail


def _last_output(verdict: Verdict) -> Iterator[Paragraph]:
    """Yield the last lines that a loop printed which did not come back."""
    lines = verdict.output.splitlines()[-LAST_OUTPUT:]
    if lines and any(found.id in ENDED for found in verdict.diagnoses):
        yield Paragraph("The last that the loop printed:")
        yield from (Paragraph(line, "faint", 2, verbatim=True) for line in lines)
        yield Paragraph()


def held_though_expected(verdict: Verdict) -> list[tuple[Expected, str]]:
    """Return each expected bug that did not occur, with what became of its law: "expected to fail, but held"."""
    laws = {law.bug.id: law for law in verdict.laws}
    found = []
    for entry in verdict.held_though_expected:
        law = laws[entry.id]
        instead = "but held" if law.status == "held" else f"but was not run: {law.reason}"
        found.append((entry, f"expected to fail, {instead}"))
    return found


def _held_though_expected(verdict: Verdict) -> Iterator[Paragraph]:
    for entry, instead in held_though_expected(verdict):
        yield Paragraph(f"{entry.where}: {entry.id}: {instead}", "bad")
    if verdict.held_though_expected:
        yield Paragraph()


def _count(number: int, name: str) -> str:
    """Return "no bug", "1 bug", "2 bugs"."""
    return f"{number or 'no'} {name}{'' if number <= 1 else 's'}"
