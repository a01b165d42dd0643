"""The times in an asv result: one row a benchmark, each column a list over the batch sizes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_loop.report.exports.series import digest, number
from mnist_loop.report.model import Measurement

COLUMNS = (
    "result",
    "params",
    "samples",
    "stats_ci_99_a",
    "stats_ci_99_b",
    "stats_q_25",
    "stats_q_75",
    "stats_number",
    "stats_repeat",
)
CONFIDENCE = 0.99  # the columns' names say so
WORD_LENGTH = 60  # of a part of a name, which becomes a part of a file's name of 255 bytes at most
KEPT_LENGTH = 40  # of a longer one, or one with letters that a path may not have, before its digest

Batches = dict[int, tuple[Path, Measurement]]


def benchmark_of(measurement: Measurement) -> str:
    """Return the name of the benchmark, whose parameter is the batch size: words with dots between."""
    workload, setting = measurement.workload, measurement.setting
    threads = [] if setting.threads is None else [f"threads {setting.threads}"]
    return ".".join(map(word, [workload.part, setting.device, *threads, setting.dtype, workload.data, workload.model]))


def word(text: str, also: str = "") -> str:
    """Return a text as a part of a path or a name: ASCII letters, digits, "-", "_" and those in ``also``.

    A space becomes "_". Any other letter does too, and then a digest tells the text from others.
    """
    spaced = text.replace(" ", "_")
    # One that begins with "-" or "." would be an option or a hidden file.
    kept = re.sub(rf"^[.-]|[^A-Za-z0-9_{re.escape(also)}-]", "_", spaced)
    if kept == spaced and 0 < len(kept) <= WORD_LENGTH:
        return kept
    return f"{kept[:KEPT_LENGTH] or '_'}-{digest(text)}"


def columns(measured: Mapping[str, Batches]) -> tuple[tuple[str, ...], dict[str, list[Any]]]:
    """Return the names of the columns, and for each benchmark its row.

    Times are seconds for one batch. Those of a row are in the order of its batch sizes, which are its ``params``.

    Raises:
        UserError: a rate is not a finite number above zero.
    """
    return COLUMNS, {name: _row(name, batches) for name, batches in measured.items()}


def _row(name: str, batches: Batches) -> list[Any]:
    sizes = sorted(batches)
    values = [_of_batch(f"{name}({size})", size, *batches[size]) for size in sizes]
    params = [[str(size) for size in sizes]]
    return [params if column == "params" else [value[column] for value in values] for column in COLUMNS]


def _of_batch(name: str, size: int, file: Path, of: Measurement) -> dict[str, Any]:
    seconds = sorted(size / number(rate, name, file) for rate in of.rates)
    low, high = interval(seconds)
    return {
        "result": size / number(of.median, name, file),
        "samples": seconds or None,
        "stats_ci_99_a": low,
        "stats_ci_99_b": high,
        # The upper quartile of the rates is the lower one of the times.
        "stats_q_25": size / number(of.q3, name, file),
        "stats_q_75": size / number(of.q1, name, file),
        "stats_number": of.steps,
        "stats_repeat": len(of.rates),
    }


def interval(ordered: list[float]) -> tuple[float, float]:
    """Return an interval that holds the median with 99 % confidence, whatever the distribution.

    Its ends are the k-th value from below and from above: the median is outside if fewer than k of n values are on
    one side of it, which has the probability P(Binomial(n, 1/2) < k) for each side. Fewer than eight values have no
    such k; the ends are then infinite, which is how asv writes it.

    Args:
        ordered: independent values, in ascending order.
    """
    n, k, outside = len(ordered), 0, 0
    while k < n and 2 * (outside + math.comb(n, k)) <= (1 - CONFIDENCE) * 2**n:
        outside += math.comb(n, k)
        k += 1
    return (ordered[k - 1], ordered[n - k]) if k else (-math.inf, math.inf)
