"""The table of the stored studies: how often each verdict was given, with its interval."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from scipy.stats import binomtest

VERDICTS = ("SLOWER", "FASTER", "SAME", "INCONCLUSIVE")
HEADINGS = (
    "second arm",
    "arms are",
    "budget",
    "margin",
    "background",
    "comparisons",
    *VERDICTS,
    "asked of it",
    "median time",
)


@dataclass(frozen=True)
class Kind:
    """The comparisons of one kind.

    Attributes:
        study: what was asked for.
        verdicts: how often each was given.
        seconds: of the budget that the comparisons took, median.
    """

    study: Mapping[str, Any]
    verdicts: Counter[str]
    seconds: float

    @property
    def asked(self) -> str:
        """How often the verdict that must be rare, or must be given, was given, with its 95 % interval."""
        total = self.verdicts.total()
        if self.study["slowdown"]:
            name, count = "SLOWER", self.verdicts["SLOWER"]
        else:
            name, count = "wrong", self.verdicts["SLOWER"] + self.verdicts["FASTER"]
        interval = binomtest(count, total).proportion_ci(0.95)
        return f"{name} {count / total:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def read_studies(folder: Path) -> list[Kind]:
    """Read all studies in ``folder``: identical code first, then by slowdown."""
    kinds = []
    for file in sorted(folder.glob("*.jsonl")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        if lines:
            seconds = median(line["spent_s"] for line in lines)
            kinds.append(Kind(lines[0]["study"], Counter(line["verdict"] for line in lines), seconds))
    return sorted(kinds, key=_order)


def _order(kind: Kind) -> tuple[Any, ...]:
    study = kind.study
    return study["slowdown"], study["budget_s"], study.get("apart", False), study["loaded"]


def studies_markdown(kinds: Sequence[Kind]) -> str:
    """Lay the studies out as a Markdown table."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * (len(HEADINGS) - 1)]
    lines += ["| " + " | ".join(_cells(kind)) + " |" for kind in kinds]
    return "\n".join(lines) + "\n"


def _cells(kind: Kind) -> tuple[str, ...]:
    study = kind.study
    return (
        f"{study['slowdown']:.0%} slower" if study["slowdown"] else "identical",
        "environments" if study.get("apart") else "settings",
        f"{study['budget_s']:g} s",
        f"{100 * study['margin']:g} %",
        "comes and goes" if study["loaded"] else "as it was",
        str(kind.verdicts.total()),
        *(str(kind.verdicts[verdict]) for verdict in VERDICTS),
        kind.asked,
        f"{kind.seconds:.1f} s",
    )
