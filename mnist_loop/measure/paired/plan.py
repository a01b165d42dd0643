"""The plan of a comparison: what is measured, how finely, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

SHORTEST_BLOCK_S, LONGEST_BLOCK_S = (
    0.025,
    0.1,
)  # a clock read or a wake-up is lost in the one; drift is small in the other
BLOCKS_IN_BUDGET = 1200  # of that length
# The times at which a verdict is looked for: each look costs some of the confidence, and eight of them, each half as
# far again as the one before, find a verdict at most half as late again as it was there.
LOOKS, LOOK_FACTOR = 8, 1.5


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long.

    Attributes:
        part: of the lesson: "step", "evaluation", "input pipeline" or "end to end".
        batch_sizes: of the sweep, one or more.
        data: where the images come from, as for `mnist_loop.data.load_data`.
        device: "auto", or what `mnist_loop.device.resolve_device` takes; where an arm sets none.
        threads: CPU threads, where an arm sets none.
        dtype: of the model and the images, where an arm sets none.
        margin: the share below which a difference does not matter: 0.01 for 1 %.
        confidence: with which all verdicts of the run hold together.
        budget_s: seconds of measuring, at most.
        seed: of the order of the blocks.
        ruler: whether what the machine itself can do is measured before and after.
    """

    part: str = "step"
    batch_sizes: tuple[int, ...] = (64,)
    data: str | None = None
    device: str = "auto"
    threads: int = 1
    dtype: str = "float32"
    margin: float = 0.01
    confidence: float = 0.95
    budget_s: float = 60.0
    seed: int = 0
    ruler: bool = True

    @property
    def block_s(self) -> float:
        """Seconds that a block is to take."""
        return min(max(self.budget_s / BLOCKS_IN_BUDGET, SHORTEST_BLOCK_S), LONGEST_BLOCK_S)

    @property
    def looks(self) -> list[float]:
        """Seconds of measuring after which a verdict is looked for; the last is the whole budget."""
        return [self.budget_s / LOOK_FACTOR**number for number in range(LOOKS - 1, -1, -1)]

    def as_stored(self) -> dict[str, Any]:
        """Return the plan for the first line of a comparison's file."""
        return {**asdict(self), "block_s": self.block_s, "looks": LOOKS, "model": "784-128-10"}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Plan:
        """Read a plan back."""
        values = {field.name: stored[field.name] for field in fields(cls)}
        return cls(**{**values, "batch_sizes": tuple(values["batch_sizes"])})
