"""Judges each arm of a comparison at each batch size from its rounds.

At confidence 1 - a (a is 5% at 95%), each of these errors has a probability of at most a, over all arms, batch sizes
and looks at the data together:

- Any arm within the margin is called SLOWER or FASTER. The first run alone keeps this bound, by Bonferroni over the
  looks and Holm over the cells. In addition, SLOWER and FASTER are reported only after a second run, judged by its own
  rounds with Holm over its cells, agrees.
- Any arm beyond the margin is called SAME, by the same corrections. SAME needs no second run and is reported at any
  look; it uses the rounds of both runs where there are two.

A wrong direction (FASTER for an arm that is slower by more than the margin) needs intervals that miss the truth by
twice the margin in both runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mnist_loop.statistics import reasons
from mnist_loop.statistics.holm import levels
from mnist_loop.statistics.pairing import Round, generations
from mnist_loop.statistics.ratio import MOST_LOG, Ratio, at, paired_ratio, reach
from mnist_loop.statistics.speed_verdict import DIFFERENT, Band, SpeedVerdict

# Below 5 restarts the interval covers too little: docs/coverage.md has 93% for 5.
FEWEST_GENERATIONS = 5
FIRST, CONFIRMING = 1, 2
Generations = Sequence[Sequence[float]]


@dataclass(frozen=True)
class CellSeries:
    """The log-ratios of an arm to the first one, a list for each generation.

    Attributes:
        first: those of the first run.
        second: those of the second run; none where there was none.
        control: those of the second copy of the first arm, of both runs.
    """

    first: Generations
    second: Generations = ()
    control: Generations = ()


@dataclass(frozen=True)
class Decision:
    """The verdict on one cell.

    Attributes:
        verdict: on the arm, compared with the first.
        ratio: with the interval behind the verdict; None with fewer than two restarts. Of two runs that agree on SLOWER
            or FASTER, the one closer to the margin.
        detectable: the smallest true change, as a share, that a run like this calls SLOWER with 80% power; infinite
            where there is no ratio.
        reason: in one sentence, with figures.
        control: the ratio of the second copy of the first arm to the first; None with fewer than two restarts.
        unconfirmed: whether the verdict waits for a second run, or for more of it.
    """

    verdict: SpeedVerdict
    ratio: Ratio | None
    detectable: float
    reason: str
    control: Ratio | None
    unconfirmed: bool = False

    @property
    def certain(self) -> bool:
        """Whether more rounds would not change the verdict."""
        return self.verdict is not SpeedVerdict.INCONCLUSIVE


@dataclass(frozen=True)
class CellDecision(Decision):
    """A decision with its cell.

    Attributes:
        arm: index of the arm.
        batch_size: of the cell.
    """

    arm: int = 0
    batch_size: int = 0


def judge_rounds(
    rounds: Iterable[Round],
    arms: int,
    batch_sizes: Sequence[int],
    margin: float,
    confidence: float = 0.95,
    looks: int = 1,
) -> list[CellDecision]:
    """Judge each arm but the first and the last, which is the control, at each batch size.

    Args:
        rounds: whole ones, of both runs.
        arms: number of arms, the control among them.
        batch_sizes: those of the plan, measured by now or not.
        margin: share below which a difference does not matter.
        confidence: with which all verdicts hold together.
        looks: the largest number of looks at the data in both runs together.
    """
    found = list(rounds)
    cells = [(arm, size) for size in batch_sizes for arm in range(1, arms - 1)]

    def of(arm: int, size: int, *runs: int) -> list[list[float]]:
        return [members for run in runs for members in generations(found, arm, size, run)]

    series = [
        CellSeries(of(arm, size, FIRST), of(arm, size, CONFIRMING), of(arms - 1, size, FIRST, CONFIRMING))
        for arm, size in cells
    ]
    decisions = judge_cells(series, margin, confidence, looks)
    return [
        CellDecision(**vars(one), arm=arm, batch_size=size) for one, (arm, size) in zip(decisions, cells, strict=True)
    ]


def judge_cells(cells: Sequence[CellSeries], margin: float, confidence: float = 0.95, looks: int = 1) -> list[Decision]:
    """Judge all cells of a comparison together.

    Raises:
        ValueError: a negative margin, a confidence that is not between 0 and 1, no look, or a log-ratio that is not
            finite.
    """
    if not (margin >= 0 and 0 < confidence < 1 and looks >= 1):
        raise ValueError(
            f"margin {margin}, confidence {confidence} and {looks} looks found, expected a margin of at least 0, "
            "a confidence between 0 and 1, and at least one look"
        )
    band, level = Band(margin), (1 - confidence) / looks
    firsts = [_estimate(cell.first) for cell in cells]
    seconds = [_estimate(cell.second) for cell in cells]
    pooled = [
        _estimate([*cell.first, *cell.second]) if cell.second else first
        for cell, first in zip(cells, firsts, strict=True)
    ]
    confirming = [index for index, cell in enumerate(cells) if cell.second]

    different = levels([_p(band.p_different, ratio) for ratio in firsts], level)
    again = dict(zip(confirming, levels([_p(band.p_different, seconds[i]) for i in confirming], level), strict=True))
    same = levels([_p(band.p_same, ratio) for ratio in pooled], level)
    return [
        _Cell(
            band,
            _read(firsts[i], different[i][1]),
            _read(seconds[i], again[i][1]) if i in again else None,
            _read(pooled[i], same[i][1]),
            _read(pooled[i], min(different[i][1], same[i][1])),
            _read(_estimate(cell.control), level),
            len(cell.first),
            bool(cell.second),
        ).opinion()
        for i, cell in enumerate(cells)
    ]


def certain(opinions: Iterable[Decision]) -> bool:
    """Whether every cell is decided."""
    return all(one.certain for one in opinions)


@dataclass(frozen=True)
class _Cell:
    """The intervals of one cell, each at its level of Holm's procedure."""

    band: Band
    first: Ratio | None
    second: Ratio | None
    for_same: Ratio | None
    left_open: Ratio | None
    control: Ratio | None
    restarts: int
    confirming: bool

    def opinion(self) -> Decision:
        """Return the decision."""
        margin = self.band.margin
        if self.first is None or self.left_open is None or _few(self.first):
            reason = reasons.too_few(self.restarts, FEWEST_GENERATIONS)
            return self._say(SpeedVerdict.INCONCLUSIVE, self.first, reason)
        first = self.band.verdict(self.first)
        if self.control is not None and not _few(self.control) and self.band.verdict(self.control) in DIFFERENT:
            reason = reasons.too_noisy(self.control)
            return self._say(SpeedVerdict.INCONCLUSIVE, self.left_open, reason, first in DIFFERENT and self.confirming)
        if first in DIFFERENT:
            return self._decide_difference(first, self.first)
        if self.for_same is not None and self.band.verdict(self.for_same) is SpeedVerdict.SAME:
            return self._say(SpeedVerdict.SAME, self.for_same, reasons.within_margin(self.for_same, margin))
        seen = self._detectable(self.left_open)
        if self.band.verdict(self.left_open) is SpeedVerdict.INCONCLUSIVE:
            return self._say(SpeedVerdict.INCONCLUSIVE, self.left_open, reasons.between(self.left_open, margin, seen))
        # Here the pooled interval is decisive where the first run's is not: the second run differs from the first.
        if first is SpeedVerdict.SAME and self.second is not None:
            return self._say(SpeedVerdict.INCONCLUSIVE, self.second, reasons.not_agreed(self.first, self.second))
        reason = reasons.between(self.first, margin, self._detectable(self.first))
        return self._say(SpeedVerdict.INCONCLUSIVE, self.first, reason)

    def _decide_difference(self, verdict: SpeedVerdict, first: Ratio) -> Decision:
        """Return the decision where the first run is SLOWER or FASTER."""
        if self.second is None or _few(self.second):
            reason = reasons.to_be_confirmed(verdict, first, self.band.margin)
            return self._say(SpeedVerdict.INCONCLUSIVE, first, reason, unconfirmed=True)
        if self.band.verdict(self.second) is not verdict:
            reason = reasons.not_confirmed(verdict, first, self.second)
            return self._say(SpeedVerdict.INCONCLUSIVE, self.second, reason, unconfirmed=True)
        closer = min(
            first, self.second, key=lambda ratio: ratio.low if verdict is SpeedVerdict.SLOWER else 1 / ratio.high
        )
        return self._say(verdict, closer, reasons.confirmed(verdict, first, self.second, self.band.margin))

    def _say(self, verdict: SpeedVerdict, ratio: Ratio | None, reason: str, unconfirmed: bool = False) -> Decision:
        return Decision(verdict, ratio, self._detectable(ratio), reason, self.control, unconfirmed)

    def _detectable(self, ratio: Ratio | None) -> float:
        if ratio is None:
            return math.inf
        return math.expm1(min(math.log(self.band.high) + reach(ratio, ratio.confidence), MOST_LOG))


def _few(ratio: Ratio) -> bool:
    return ratio.generations < FEWEST_GENERATIONS


def _estimate(generations: Generations) -> Ratio | None:
    return paired_ratio(generations) if len(generations) > 1 else None


def _read(ratio: Ratio | None, level: float) -> Ratio | None:
    return None if ratio is None else at(ratio, 1 - level)


def _p(test: Callable[[Ratio], float], ratio: Ratio | None) -> float:
    """Return the p-value, or 1 where there are too few restarts to say anything."""
    return 1.0 if ratio is None or _few(ratio) else test(ratio)
