"""Reads a stored comparison line by line: the header and the events."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count
from typing import BinaryIO

from mnist_loop.report.reading.decode import decode
from mnist_loop.report.reading.node import MOST_ENTRIES, InvalidResult, Node
from mnist_loop.report.reading.run_facts import read_ruler
from mnist_loop.report.reading.schema import newer
from mnist_loop.report.stored import RulerResult
from mnist_loop.statistics.pairing import Block
from mnist_loop.support.limits import FEWEST_ARMS, LARGEST_FILE, LONGEST_LINE, MOST_ARMS, MOST_BATCH_SIZES

MARK = "mnist_loop_comparison"
NEWEST = 1
MOST_RUNS = 2


@dataclass
class Log:
    """The content of a file.

    Attributes:
        header: its first line.
        arms: their number, the control included.
        batch_sizes: as planned.
        blocks: in the order of the file.
        rulers: of each arm, in the order of time.
        warm_ups: of each arm and batch size: seconds of the first step, and until it was steady.
        why: the reason of its end; None where the file has none.
        seconds: its duration so far.
    """

    header: Node
    arms: int
    batch_sizes: frozenset[int]
    blocks: list[Block] = field(default_factory=list)
    rulers: dict[int, list[RulerResult]] = field(default_factory=lambda: defaultdict(list))
    warm_ups: dict[tuple[int, int], list[tuple[float | None, float]]] = field(default_factory=lambda: defaultdict(list))
    why: str | None = None
    seconds: float = 0.0


def is_comparison(first_line: bytes) -> bool:
    """Whether a file with this first line may be a comparison."""
    return f'"{MARK}"'.encode() in first_line


def read_log(file: BinaryIO) -> Log:
    """Read a comparison, from its first line on.

    Raises:
        InvalidResult: it is no comparison, is damaged, or its values are impossible.
    """
    log: Log | None = None
    damage: InvalidResult | None = None
    size = 0
    for number in count(1):
        line = file.readline(LONGEST_LINE + 1)
        size += len(line)
        if not line:
            break
        if len(line) > LONGEST_LINE or size > LARGEST_FILE:
            raise InvalidResult(
                f"line {number} is too long, or there are too many: no comparison of mnist-loop is so large"
            )
        if damage is not None and b'"continued"' not in line:  # a kill may have cut the line before "continued"
            raise damage
        damage = None
        try:
            node = Node(decode(line), f"line {number}")
        except InvalidResult as error:
            # A last line without a line feed was cut short by a kill.
            damage = InvalidResult(f"line {number}: {error}") if line.endswith(b"\n") or log is None else None
            continue
        if log is None:
            log = _header(node)
        else:
            _event(log, node)
    if damage is not None:
        raise damage
    if log is None:
        raise InvalidResult("empty: expected a comparison that mnist-loop compare stored")
    return log


def _header(node: Node) -> Log:
    schema = node[MARK].count(most=10**6)
    if schema > NEWEST:
        raise newer(schema, NEWEST)
    arms = len(list(node["arms"]))
    if not FEWEST_ARMS <= arms <= MOST_ARMS:
        raise node["arms"].misfit(f"{FEWEST_ARMS} to {MOST_ARMS} arms, the control among them")
    batch_sizes = frozenset(size.count(most=2**31) for size in node["plan"]["batch_sizes"])
    if not 1 <= len(batch_sizes) <= MOST_BATCH_SIZES:
        raise node["plan"]["batch_sizes"].misfit(f"1 to {MOST_BATCH_SIZES} batch sizes")
    return Log(node, arms, batch_sizes)


def _event(log: Log, node: Node) -> None:
    kind = node["event"].text()
    if kind == "block":
        _block(log, node)
    elif kind == "ruler":
        log.rulers[_arm(log, node)].append(read_ruler(node))
    elif kind == "warm-up":
        _warm_up(log, node)
    elif kind == "continued":
        log.why = None
    elif kind == "end":
        log.why = node["why"].text()
        log.seconds = max(log.seconds, node["seconds"].not_negative())
    # Other events (losses, and those of later versions) are not reported.


def _block(log: Log, node: Node) -> None:
    block = Block(
        arm=_arm(log, node),
        batch_size=_batch_size(log, node),
        run=node["run"].count(most=MOST_RUNS),
        generation=node["generation"].count(0),
        round=node["round"].count(0),
        start=node["start"].not_negative(),
        seconds=node["seconds"].positive(),
        images=node["images"].count(),
    )
    log.blocks.append(block)
    log.seconds = max(log.seconds, block.start + block.seconds)


def _warm_up(log: Log, node: Node) -> None:
    blocks = [block.positive() for block in node["blocks"]]
    steady_from = node["steady_from"].count(0, MOST_ENTRIES)
    first = node["first_step_s"].positive_or_none()
    log.warm_ups[_arm(log, node), _batch_size(log, node)].append((first, sum(blocks[:steady_from])))


def _arm(log: Log, node: Node) -> int:
    return node["arm"].count(0, log.arms - 1)


def _batch_size(log: Log, node: Node) -> int:
    batch_size = node["batch_size"]
    if batch_size.count() not in log.batch_sizes:
        raise batch_size.misfit("one of those planned")
    return batch_size.count()
