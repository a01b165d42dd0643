"""The four verdicts, and when each is due."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mnist_loop.statistics.ratio import Ratio, p_faster, p_slower


class SpeedVerdict(str, Enum):
    """What a comparison can say of an arm beside the first one."""

    SLOWER = "SLOWER"
    FASTER = "FASTER"
    SAME = "SAME"
    INCONCLUSIVE = "INCONCLUSIVE"


RED = (SpeedVerdict.SLOWER, SpeedVerdict.FASTER)


@dataclass(frozen=True)
class Band:
    """The ratios that do not matter: from 1 / (1 + margin) to 1 + margin.

    Attributes:
        margin: share below which a difference does not matter, 0.01 for 1%; not negative.
    """

    margin: float

    @property
    def high(self) -> float:
        """The largest ratio that does not matter."""
        return 1 + self.margin

    @property
    def low(self) -> float:
        """The smallest."""
        return 1 / self.high

    def verdict(self, ratio: Ratio) -> SpeedVerdict:
        """Say where the interval lies: wholly above the band, below or within, or neither."""
        if ratio.low > self.high:
            return SpeedVerdict.SLOWER
        if ratio.high < self.low:
            return SpeedVerdict.FASTER
        within = self.low < ratio.low and ratio.high < self.high
        return SpeedVerdict.SAME if within else SpeedVerdict.INCONCLUSIVE

    def p_red(self, ratio: Ratio) -> float:
        """Return the p-value of "it is in the band": the interval at 1 - p just touches the band from outside."""
        return min(1.0, 2 * min(p_slower(ratio, self.high), p_faster(ratio, self.low)))

    def p_same(self, ratio: Ratio) -> float:
        """Return the p-value of "it is not in the band": the interval at 1 - p just fits into the band."""
        return min(1.0, 2 * max(p_slower(ratio, self.low), p_faster(ratio, self.high)))
