"""A verdict as workflow commands of GitHub Actions, which shows each beside its line of a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnist_loop.support.console import printable
from mnist_loop.verdict.formats.evidence import evidence, place
from mnist_loop.verdict.location import shown_path
from mnist_loop.verdict.text import held_though_expected, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnist_loop.verdict.verdict import Verdict

COMMANDS = {"bug": "error", "cost": "warning", "info": "notice"}  # by severity
# The first line, which GitHub shows in debug logs alone: a file with it may be replaced.
MARK = "::debug::mnist-loop "


def as_github(verdict: Verdict) -> str:
    """Return a line for each diagnosis that is neither expected nor silenced, and for what else fails."""
    return "".join(f"{line}\n" for line in _lines(verdict))


def is_github(content: bytes) -> bool:
    """Tell whether a file with this content holds a verdict in this format."""
    return content.startswith(MARK.encode())


def _lines(verdict: Verdict) -> Iterator[str]:
    yield f"{MARK}{verdict.tool}: {_data(summary(verdict))}"
    for found in verdict.diagnoses:
        if not found.ignored and found.id not in verdict.expected:
            file, line = place(verdict, found)
            title = f"{found.id}: {found.bug.title}"
            yield _command(COMMANDS[found.severity], evidence(verdict, found), title, file, line)
    for entry, instead in held_though_expected(verdict):
        yield _command("error", instead, entry.id, entry.file if entry.line else None, entry.line)
    for note in verdict.notes:
        yield _command("warning", note, f"mnist-loop {verdict.tool}")
    if verdict.result == "nothing-run":
        yield _command("error", f"{verdict.name}: {summary(verdict)}", f"mnist-loop {verdict.tool}")


def _command(name: str, message: str, title: str, file: str | None = None, line: int | None = None) -> str:
    properties = {"file": None if file is None else shown_path(file), "line": line, "title": title}
    given = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items() if value is not None)
    return f"::{name} {given}::{_data(message)}"


def _data(text: str) -> str:
    """Escape a message; a workflow command is one line, and its control characters are shown."""
    return "%0A".join(printable(line).replace("%", "%25") for line in text.splitlines())


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
