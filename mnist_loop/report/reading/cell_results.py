"""The cells of a comparison: ratio and verdict of each arm at each batch size, from all complete rounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from mnist_loop.report.reading.log import Log
from mnist_loop.report.reading.node import InvalidResult
from mnist_loop.report.stored import CellResult, Pair, WorkloadId
from mnist_loop.statistics.judgement import judge_rounds
from mnist_loop.statistics.pairing import Round, rounds
from mnist_loop.support.limits import LARGEST_MARGIN, MOST_RESTARTS, SMALLEST_MARGIN

MOST_LOOKS = 100_000


def cell_results(log: Log, workloads: Mapping[int, WorkloadId]) -> Iterator[CellResult]:
    """Yield a cell for each arm (but the first and the control) and batch size with at least two restarts.

    Raises:
        InvalidResult: the plan is invalid, or there are too many restarts.
    """
    plan = log.header["plan"]
    margin, confidence = plan["margin"].between(SMALLEST_MARGIN, LARGEST_MARGIN), plan["confidence"].between(0.5, 1.0)
    looks = plan["looks"].count(most=MOST_LOOKS)
    if len({block.generation for block in log.blocks}) > MOST_RESTARTS:
        raise InvalidResult(f"more than {MOST_RESTARTS} restarts found: no comparison of mnist-loop has so many")
    found = rounds(log.blocks, log.arms)
    of_size: dict[int, list[Round]] = defaultdict(list)
    for one in found:
        of_size[one.batch_size].append(one)
    rates = _rates(log)
    for judged in judge_rounds(found, log.arms, list(workloads), margin, confidence, looks):
        if judged.ratio is None:  # one restart gives no interval
            continue
        size = judged.batch_size
        yield CellResult(
            workload=workloads[size],
            arm=judged.arm,
            ratio=judged.ratio,
            verdict=judged.verdict,
            reason=judged.reason,
            detectable=judged.detectable,
            pairs=_pairs(of_size[size], judged.arm),
            control=judged.control,
            control_pairs=_pairs(of_size[size], log.arms - 1),
            base_rate=rates[0, size],
            rate=rates[judged.arm, size],
        )


def _rates(log: Log) -> dict[tuple[int, int], float]:
    """Return the median images per second of each arm at each batch size."""
    rates: dict[tuple[int, int], list[float]] = defaultdict(list)
    for block in log.blocks:
        rates[block.arm, block.batch_size].append(block.images / block.seconds)
    return {key: median(found) for key, found in rates.items()}


def _pairs(found: Sequence[Round], arm: int) -> tuple[Pair, ...]:
    return tuple(Pair(one.start, one.generation, one.log_ratio(arm)) for one in found)
