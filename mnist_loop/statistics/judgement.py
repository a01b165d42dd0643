"""From the rounds of a comparison to a verdict on each arm at each batch size.

What may go wrong, and how often at most, at confidence 1 - a (5% for a confidence of 95%), over all arms, batch
sizes and looks at the data together:

- that any arm within the margin is called SLOWER or FASTER: a. The first run alone keeps to that, by Bonferroni over
  the looks and Holm over the cells; and it takes a second one, on its own rounds, with Holm over the cells it was for.
- that any arm beyond the margin is called SAME: a, in the same way. SAME needs no second run, and may be said at any
  look, since each look has paid its share of a. It uses the rounds of both runs where there are two.

A wrong direction, FASTER for what is slower by more than the margin, needs an interval that misses the truth by twice
the margin, and the same in the second run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mnist_loop.statistics import reasons
from mnist_loop.statistics.holm import levels
from mnist_loop.statistics.pairing import Round, generations
from mnist_loop.statistics.ratio import MOST_LOG, Ratio, at, paired_ratio, reach
from mnist_loop.statistics.speed_verdict import RED, Band, SpeedVerdict

# Below 5 restarts the interval covers too little: docs/coverage.md has 93% for 5.
FEWEST_GENERATIONS = 5
FIRST, CONFIRMING = 1, 2
Generations = Sequence[Sequence[float]]


@dataclass(frozen=True)
class CellSeries:
    """The log-ratios of an arm to the first one, a list for each generation.

    Attributes:
        first: those of the first run.
        second: those of the run that confirms; none where there was none.
        control: those of the second copy of the first arm, of both runs.
    """

    first: Generations
    second: Generations = ()
    control: Generations = ()


@dataclass(frozen=True)
class Decision:
    """What can be said of one cell.

    Attributes:
        verdict: of the arm beside the first one.
        ratio: with the interval that decided, or that left it open; None with fewer than two restarts. Of two runs
            that both say red it is the one that lies closer to the margin.
        detectable: the smallest true change, as a share, that a run like this calls SLOWER with 80% power; infinite
            where there is no ratio.
        reason: in one sentence, with figures.
        control: the ratio of the second copy of the first arm to the first; None with fewer than two restarts.
        unconfirmed: whether a second run, or more of it, is what the verdict waits for.
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
    """An opinion, and which cell it is on.

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
        confidence: with which all that is said holds together.
        looks: how often the verdict is asked for, at most, in both runs together.
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

    red = levels([_p(band.p_red, ratio) for ratio in firsts], level)
    again = dict(zip(confirming, levels([_p(band.p_red, seconds[i]) for i in confirming], level), strict=True))
    same = levels([_p(band.p_same, ratio) for ratio in pooled], level)
    return [
        _Cell(
            band,
            _read(firsts[i], red[i][1]),
            _read(seconds[i], again[i][1]) if i in again else None,
            _read(pooled[i], same[i][1]),
            _read(pooled[i], min(red[i][1], same[i][1])),
            _read(_estimate(cell.control), level),
            len(cell.first),
            bool(cell.second),
        ).opinion()
        for i, cell in enumerate(cells)
    ]


def certain(opinions: Iterable[Decision]) -> bool:
    """Whether every cell is decided, so that a run can stop."""
    return all(one.certain for one in opinions)


@dataclass(frozen=True)
class _Cell:
    """The intervals of one cell, each at the level that Holm's procedure holds it to."""

    band: Band
    first: Ratio | None
    second: Ratio | None
    for_same: Ratio | None
    left_open: Ratio | None
    control: Ratio | None
    restarts: int
    confirming: bool

    def opinion(self) -> Decision:
        """Say what can be said."""
        margin = self.band.margin
        if self.first is None or self.left_open is None or _few(self.first):
            reason = reasons.too_few(self.restarts, FEWEST_GENERATIONS)
            return self._say(SpeedVerdict.INCONCLUSIVE, self.first, reason)
        first = self.band.verdict(self.first)
        if self.control is not None and not _few(self.control) and self.band.verdict(self.control) in RED:
            reason = reasons.too_noisy(self.control)
            return self._say(SpeedVerdict.INCONCLUSIVE, self.left_open, reason, first in RED and self.confirming)
        if first in RED:
            return self._red(first, self.first)
        if self.for_same is not None and self.band.verdict(self.for_same) is SpeedVerdict.SAME:
            return self._say(SpeedVerdict.SAME, self.for_same, reasons.within_margin(self.for_same, margin))
        seen = self._detectable(self.left_open)
        if self.band.verdict(self.left_open) is SpeedVerdict.INCONCLUSIVE:
            return self._say(SpeedVerdict.INCONCLUSIVE, self.left_open, reasons.between(self.left_open, margin, seen))
        # Both runs together say more than the first, which only a second run that differs from it brings about.
        if first is SpeedVerdict.SAME and self.second is not None:
            return self._say(SpeedVerdict.INCONCLUSIVE, self.second, reasons.not_agreed(self.first, self.second))
        reason = reasons.between(self.first, margin, self._detectable(self.first))
        return self._say(SpeedVerdict.INCONCLUSIVE, self.first, reason)

    def _red(self, verdict: SpeedVerdict, first: Ratio) -> Decision:
        """Say what a first run that is red comes to."""
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
