"""The four verdicts of a comparison, and the interval that each one requires."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mnist_loop.statistics.ratio import Ratio, p_faster, p_slower


class SpeedVerdict(str, Enum):
    """The verdict on an arm, compared with the first."""

    SLOWER = "SLOWER"
    FASTER = "FASTER"
    SAME = "SAME"
    INCONCLUSIVE = "INCONCLUSIVE"


DIFFERENT = (SpeedVerdict.SLOWER, SpeedVerdict.FASTER)


@dataclass(frozen=True)
class Band:
    """The ratios within the margin: from 1 / (1 + margin) to 1 + margin.

    Attributes:
        margin: share below which a difference does not matter, 0.01 for 1%; not negative.
    """

    margin: float

    @property
    def high(self) -> float:
        """The largest ratio within the margin."""
        return 1 + self.margin

    @property
    def low(self) -> float:
        """The smallest ratio within the margin."""
        return 1 / self.high

    def verdict(self, ratio: Ratio) -> SpeedVerdict:
        """Return the verdict of an interval: beyond the band, within it, or neither."""
        if ratio.low > self.high:
            return SpeedVerdict.SLOWER
        if ratio.high < self.low:
            return SpeedVerdict.FASTER
        within = self.low < ratio.low and ratio.high < self.high
        return SpeedVerdict.SAME if within else SpeedVerdict.INCONCLUSIVE

    def p_different(self, ratio: Ratio) -> float:
        """Return the p-value of "the ratio is in the band": the interval at 1 - p touches the band from outside."""
        return min(1.0, 2 * min(p_slower(ratio, self.high), p_faster(ratio, self.low)))

    def p_same(self, ratio: Ratio) -> float:
        """Return the p-value of "the ratio is not in the band": the interval at 1 - p just fits into the band."""
        return min(1.0, 2 * max(p_slower(ratio, self.low), p_faster(ratio, self.high)))
