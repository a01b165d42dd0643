"""A report as text for people: a header, a line for each law, the diagnoses, and one sentence at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mnist_loop.bugs import SUBJECTS
from mnist_loop.support.console import Block, Paragraph, Styled, TextTable, paragraphs, plain_text
from mnist_loop.verdict.report import NOT_ASKED_FOR
from mnist_loop.verification.laws.judge import ENDED

if TYPE_CHECKING:
    from mnist_loop.verdict.report import Diagnosed, Report, Row

REMINDER = "This says nothing beyond the laws that ran: a loop that keeps them all can still be wrong in other ways."
SEVERITY_STYLES = {"bug": "bad", "cost": "warn", "info": "warn"}
LAST_OUTPUT = 5  # lines, of a loop that did not come back


def render(report: Report) -> str:
    """Return the report as text without colour."""
    return plain_text(page(report))


def page(report: Report) -> Iterator[Block]:
    """Yield what is shown of a report, from the header to the last line."""
    yield Paragraph(header(report), "strong")
    yield from _notes(report)
    yield Paragraph()
    yield from _laws(report)
    for diagnosed in report.diagnoses:
        yield from diagnosis(diagnosed)
    yield from _ended_output(report)
    for entry in report.held_though_expected:
        row = next(row for row in report.rows if row.bug.id == entry.id)
        instead = "but held" if row.status == "held" else f"but was not run: {row.reason}"
        yield Paragraph(f"{entry.where}: {entry.id}: expected to fail, {instead}", "bad")
    if report.held_though_expected:
        yield Paragraph()
    yield Paragraph(summary(report), "good" if report.exit_code == 0 else "bad")
    yield Paragraph(REMINDER, "faint")


def header(report: Report) -> str:
    """Return the line that says what was judged, and where."""
    facts = report.environment
    return " · ".join(
        (
            f"loop: {report.verdict.name}",
            f"evaluation: {_evaluation(report)}",
            f"torch {facts['torch']}",
            str(facts["device"]),
            _cases(report),
            f"{report.verdict.seconds:.1f} s",
        )
    )


def summary(report: Report) -> str:
    """Return the last line: the number of bugs, of laws that hold, and of laws that were not run."""
    left = [row.reason == NOT_ASKED_FOR for row in report.rows_that("not-run")]
    not_run = f"{left.count(False)} not run" + (f", {left.count(True)} not asked for" if any(left) else "")
    if report.result == "nothing-run":
        return f"nothing was run: no law could be decided, {not_run}"
    parts = [_count(len(report.unexpected()), "bug")]
    parts += [_count(n, name) for name in ("cost", "info") if (n := len(report.unexpected(name)))]
    if expected := sum(d.expected is not None for d in report.diagnoses):
        parts.append(_count(expected, "expected failure"))
    if held := len(report.held_though_expected):
        parts.append(f"{held} expected but not found")
    holding = len(report.rows_that("held"))
    parts += [f"{holding} law{' holds' if holding == 1 else 's hold'}", not_run]
    return ", ".join(parts)


def _evaluation(report: Report) -> str:
    of = report.verdict.description
    if of.evaluate_roles is None:
        return "none"
    how = {"beside": "found beside it", "declared": "as declared"}.get(of.found_evaluate_by or "", "")
    name = report.asked.evaluate or of.evaluate_name
    return how if name is None else f"{name} ({how})" if of.found_evaluate_by == "beside" else name


def _cases(report: Report) -> str:
    verdict = report.verdict
    judged, drawn = len(verdict.judgements), verdict.random_cases
    cases = _count(judged, "case")
    if not drawn:
        return cases
    if verdict.bugs:  # which ended the search: not each of the cases that were drawn is among those judged
        return f"{cases} (the fixed ones, then random ones from seed {verdict.seed} until a bug showed)"
    return f"{cases} ({judged - drawn} fixed, {drawn} random from seed {verdict.seed})"


def _notes(report: Report) -> Iterator[Paragraph]:
    if report.verdict.not_isolated:
        yield Paragraph(f"run in this process: {report.verdict.not_isolated}", "warn")
    for case, reason in report.verdict.skipped.items():
        yield Paragraph(f"left out: {case!r}: {reason}", "faint")


def _laws(report: Report) -> Iterator[Block]:
    shown = [row for row in report.rows if row.reason != NOT_ASKED_FOR]
    width = max((len(row.bug.id) for row in shown), default=0)  # one for all subjects
    for subject in SUBJECTS:
        rows = [row for row in shown if row.bug.subject == subject]
        if rows:
            yield Paragraph(subject, "strong")
            yield TextTable([_cells(row, width) for row in rows], indent=2)
    yield Paragraph()


def _cells(row: Row, width: int) -> tuple[Styled, str, str]:
    if row.status == "not-run":
        return Styled("not run", "faint"), row.bug.id.ljust(width), row.reason
    detail = f"in {_count(row.cases, 'case')}"
    if row.status == "broken" and row.bug.severity != "bug":
        detail += f" ({row.bug.severity})"
    if row.reason:
        detail += f", a consequence of {row.reason}"
    style = "good" if row.status == "held" else SEVERITY_STYLES[row.bug.severity]
    return Styled(row.status.ljust(len("not run")), style), row.bug.id.ljust(width), detail


def diagnosis(diagnosed: Diagnosed) -> Iterator[Paragraph]:
    """Yield the lines of one diagnosis: evidence, fix, place, consequences, case."""
    bug = diagnosed.bug
    kind = "" if bug.severity == "bug" else f" ({bug.severity})"
    if diagnosed.expected is not None:
        kind = f" (expected: {diagnosed.expected.reason})"
    style = SEVERITY_STYLES[bug.severity] if diagnosed.expected is None else "warn"
    yield Paragraph(f"{bug.id}: {bug.title}{kind}", style)
    yield from paragraphs(diagnosed.text, indent=2)
    yield Paragraph(f"Most likely: {bug.hint}.", indent=2)
    if diagnosed.location is not None:
        yield Paragraph(f"{diagnosed.location.place}: {diagnosed.location.text}", indent=2, verbatim=True)
    if diagnosed.consequences:
        yield Paragraph(f"Consequences: {', '.join(finding.id for finding in diagnosed.consequences)}", indent=2)
    of = f"of {diagnosed.count} that show it" if diagnosed.count > 1 else "the only one that shows it"
    yield Paragraph(f"Smallest case: {diagnosed.case!r}, {of}. To see it again:", indent=2)
    yield from paragraphs(diagnosed.snippet, "faint", indent=6, verbatim=True)
    yield Paragraph(f"mnist-loop verify --explain {bug.id}", indent=2, verbatim=True)
    yield Paragraph()


def _ended_output(report: Report) -> Iterator[Paragraph]:
    """Yield the last that a loop printed which did not come back."""
    lines = report.verdict.output.splitlines()[-LAST_OUTPUT:]
    if lines and any(diagnosed.bug.id in ENDED for diagnosed in report.diagnoses):
        yield Paragraph("The last that the loop printed:")
        yield from (Paragraph(line, "faint", 2, verbatim=True) for line in lines)
        yield Paragraph()


def _count(number: int, name: str) -> str:
    """Return "no bug", "1 bug", "2 bugs"."""
    return f"{number or 'no'} {name}{'' if number <= 1 else 's'}"
