"""Expected failures: a file with a line ``id: reason`` for each known bug of a loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mnist_loop.bugs import get
from mnist_loop.errors import UserError
from mnist_loop.support.shown import shown

FORM = "expected `id: reason`"


@dataclass(frozen=True)
class Expected:
    """A bug that is expected.

    Attributes:
        id: of the bug.
        reason: why it stays.
        file, line: the place of the entry; None for the line of an entry of ``pyproject.toml``.
    """

    id: str
    reason: str
    file: str
    line: int | None = None

    @property
    def where(self) -> str:
        """The place of the entry, for people."""
        return self.file if self.line is None else f"{self.file}, line {self.line}"


def read_expected(file: Path) -> dict[str, Expected]:
    """Read a file of expected failures, by id; blank lines and comments after ``#`` are skipped.

    Raises:
        UserError: the file cannot be read, or a line has no reason, an unknown id, or an id that an earlier line has.
    """
    try:
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UserError(
            f"{file}: cannot be read ({reason}), expected a file of expected failures: give its name"
        ) from None
    found: dict[str, Expected] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        text = "" if line.lstrip().startswith("#") else line.partition(" #")[0].strip()
        if not text:
            continue
        entry = _entry(text, str(file), number)
        if entry.id in found:
            raise UserError(
                f"{entry.where}: {entry.id} found, which line {found[entry.id].line} has as well, "
                "expected each id once: remove one of them"
            )
        found[entry.id] = entry
    return found


def _entry(text: str, file: str, number: int) -> Expected:
    id_, colon, reason = (part.strip() for part in text.partition(":"))
    entry = Expected(id_, reason, file, number)
    if not colon or not reason:
        found = shown(text) if not colon else f"{shown(id_)} without a reason"
        raise UserError(f"{entry.where}: {found} found, {FORM}: say why the bug stays")
    return checked_entry(entry)


def checked_entry(entry: Expected) -> Expected:
    """Return the entry.

    Raises:
        UserError: its id is no bug's, or that of one that is never decided.
    """
    try:
        bug = get(entry.id)
    except UserError as error:
        raise UserError(f"{entry.where}: {error}") from None
    if bug.undecided:
        raise UserError(f"{entry.where}: {entry.id} found, which is never decided, {FORM} of one that is: remove it")
    return entry
