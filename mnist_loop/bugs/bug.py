"""A bug as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import dedent
from typing import Literal

# Regular expressions of lines that the bugs of several subjects are seen in.
BACKWARD = r"\.backward\("
ZERO_GRAD = r"\.zero_grad\b"
OVER_BATCHES = r"load|batch|data|\bdl\b"  # what a loop over the batches runs over

Tool = Literal["verify", "check"]
Severity = Literal["bug", "cost", "info"]


@dataclass(frozen=True)
class Bug:
    """One way in which a training loop goes wrong.

    Attributes:
        id: its stable name, in kebab-case.
        title: what is wrong, in one line.
        hint: the fix, as one imperative sentence without a full stop.
        broken: a snippet with the bug.
        fixed: the same snippet without it.
        symptom: what the bug does to a training, and how it shows exactly.
        law: what holds in every loop without the bug; empty where no law decides it.
        severity: "bug" makes the result wrong, "cost" wastes time or memory, "info" is worth a look.
        needs: what a loop has to offer or declare for this to be decided; empty where nothing is needed.
        undecided: why no run of the loop on one machine can decide it; empty where one can.
        explains: ids of the bugs whose laws a loop with this bug breaks as well, as a consequence.
        decided_by: the commands that decide it: "verify" by replaying each step, "check" by watching a training.
        catch_all: the law says what differs and not why, so that a finding that names the reason goes before it.
        ends: the ways in which a loop with this bug ends its process; empty where the process goes on.
        lines: regular expressions of the line in which the bug is seen. The first that matches any line decides. Where
            the bug is that something is missing, the last is for the line at which it is missing. Each is so narrow
            that it matches no line of a right loop, such as `loss.item()` for the log.
        loop_over: what the innermost loop around that line must run over; None where there need be none.
        reported: addresses at which people reported it.
        hints: fixes that go before `hint` where the evidence matches a regular expression: (expression, hint).
        subject: the `SUBJECT` of the module that it stands in. The catalogue fills it in.
    """

    id: str
    title: str
    hint: str
    broken: str
    fixed: str
    symptom: str
    law: str = ""
    severity: Severity = "bug"
    needs: str = ""
    undecided: str = ""
    decided_by: tuple[Tool, ...] = ("verify",)
    explains: tuple[str, ...] = ()
    catch_all: bool = False
    ends: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    loop_over: str | None = None
    reported: tuple[str, ...] = ()
    hints: tuple[tuple[str, str], ...] = ()
    subject: str = ""

    def hint_for(self, evidence: str) -> str:
        """Return the fix for what was found."""
        return next((hint for pattern, hint in self.hints if re.search(pattern, evidence)), self.hint)


def code(text: str) -> str:
    """Return a snippet without the indentation and the blank lines that its place in the source gives it."""
    return dedent(text).strip()
