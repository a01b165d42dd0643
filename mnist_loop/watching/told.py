"""What one process tells another of the training that was watched in it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from mnist_loop.verdict.finding import Finding, Judgement
from mnist_loop.verdict.location import SourceLine


@dataclass
class Told:
    """What a process has found.

    Attributes:
        judgement: of its training.
        watched: what was watched in it, in a sentence.
    """

    judgement: Judgement
    watched: str

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Told:
        """Read what `to_json` has written."""
        content = json.loads(text)
        judgement = content["judgement"]
        judgement["findings"] = [
            Finding(**{**found, "line": None if found["line"] is None else SourceLine(**found["line"])})
            for found in judgement["findings"]
        ]
        return cls(Judgement(**judgement), content["watched"])
