"""docs/bugs.md, made from the catalogue."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from mnist_loop.bugs import BUGS, SUBJECTS, Bug

INTRODUCTION = """\
# The bugs

What goes wrong in training loops, how it shows, and how it is put right. Almost all of it was written, and reported,
by people who knew what they were doing: most of these lines raise no error, and the loss still falls.

`mnist-loop verify my_train.py:train` looks for them in a loop of yours, `mnist-loop verify --list` lists them, and
`mnist-loop verify --explain zero-grad-missing` explains one.

A **bug** makes the result wrong and fails the verification. A **cost** wastes time or memory, an **info** is worth a
look; neither fails. *Needs* says what a loop has to offer or declare before it can be judged: `declare clip=1.0` stands
for the decorator `@declare(clip=1.0)` on the loop. What cannot be judged in a loop is reported as not run, with the
reason.

*This page is generated: `python -m mnist_loop.bugs > docs/bugs.md`.*
"""


def render() -> str:
    """Return the page, as Markdown: a table for each subject, then each bug with its broken and its fixed code."""
    tables = [_table(subject, _of(subject)) for subject in SUBJECTS]
    explained = [
        f"## In full: {subject}\n\n" + "\n".join(_explain(bug) for bug in _of(subject)) for subject in SUBJECTS
    ]
    return "\n".join([INTRODUCTION, *tables, *explained])


def _of(subject: str) -> list[Bug]:
    return [bug for bug in BUGS.values() if bug.subject == subject]


def _table(subject: str, bugs: list[Bug]) -> str:
    lines = [
        f"## {_sentence(subject)}",
        "",
        "| id | kind | what is wrong | needs | reported in |",
        "|---|---|---|---|---|",
    ]
    for bug in bugs:
        needs = "not decided" if bug.undecided else bug.needs
        cells = (f"[{bug.id}](#{bug.id})", bug.severity, bug.title, needs, ", ".join(map(_link, bug.reported)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _explain(bug: Bug) -> str:
    parts = [f"### {bug.id}", f"**{_sentence(bug.title)}.** {bug.symptom}"]
    if bug.undecided:
        parts.append(f"*Not decided:* {bug.undecided}")
    elif bug.needs:
        parts.append(f"*Needs:* {bug.needs}.")
    parts += ["Broken:", _fence(bug.broken), f"Fixed: {bug.hint}.", _fence(bug.fixed)]
    if bug.reported:
        parts.append(f"*Reported in* {', '.join(map(_link, bug.reported))}.")
    return "\n\n".join(parts) + "\n"


def _sentence(text: str) -> str:
    """Return the text with a capital, unless it begins with a name out of the code."""
    return text if re.match(r"\w*[_.(]", text) else text[0].upper() + text[1:]


def _fence(code: str) -> str:
    return f"```python\n{code}\n```"


def _link(address: str) -> str:
    """Return a Markdown link: ``pytorch#47175`` for a thread of GitHub, else the name of the site."""
    parts = urlsplit(address)
    if thread := re.fullmatch(r"/[^/]+/([^/]+)/(?:issues|pull)/(\d+)", parts.path):
        return f"[{thread[1]}#{thread[2]}]({address})"
    return f"[{parts.netloc}]({address})"
