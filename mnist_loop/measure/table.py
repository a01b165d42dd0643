"""The table of one sweep: images per second by batch size, part by part, from the stored result.

It reads the document alone (see `mnist_loop.measure.results`), so that a stored file and a run that has just
ended show the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

NOISY = 0.25  # on a quiet machine it is 0.01 to 0.05; another process on the same cores makes it 0.3 to 6
PARTS = ("input pipeline", "step", "end to end", "evaluation")
UNITS = "images/s: median [interquartile range in % of it]"


@dataclass(frozen=True)
class Row:
    """One batch size on one device: a cell for each part, the peak memory, and what limits."""

    device: str
    batch_size: int
    cells: tuple[str, ...]
    memory: str
    limit: str


HEADINGS = ("batch size", *PARTS, "memory", "limited by")


def rows(document: Mapping[str, Any]) -> list[Row]:
    """Sort the benchmarks of a stored result into rows, one for each device and batch size."""
    measured: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
    for benchmark in document["benchmarks"]:
        info = benchmark["extra_info"]
        if info.get("part") in PARTS:
            measured.setdefault((info["device"], info["batch_size"]), {})[info["part"]] = info
    return [
        Row(
            device,
            batch_size,
            tuple(_throughput(parts.get(part)) for part in PARTS),
            _memory(parts.values()),
            limit(parts),
        )
        for (device, batch_size), parts in sorted(measured.items())
    ]


def limit(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which of input pipeline and step takes the larger share of their time together, and how much."""
    if not {"input pipeline", "step"} <= parts.keys():
        return ""
    seconds = {part: 1 / parts[part]["images_per_second"]["median"] for part in ("input pipeline", "step")}
    slower = max(seconds, key=lambda part: seconds[part])
    return f"{slower.split()[0]} {seconds[slower] / sum(seconds.values()):.0%}"


def caption(document: Mapping[str, Any]) -> str:
    """Say on which machine, with which software and which data a sweep was measured."""
    facts = document["mnist_loop"]
    machine, software = facts["identity"], facts["software"]
    gpus = [gpu["name"] for gpu in machine["gpus"]] if "cuda" in facts["devices"] else []
    where = ", ".join([f"{machine['cpu']}, {machine['logical_cores']} logical cores", *gpus])
    return (
        f"{where}; CPU threads: {facts['threads']}; torch {software['torch']}, Python {software['python']}; "
        f"data: {facts['data']}; {UNITS}"
    )


def footnotes(document: Mapping[str, Any]) -> list[str]:
    """Say how fast the lesson learned on each device, where that was measured, and how quiet the machine was."""
    notes = [
        f"{info['device']}: {info['accuracy']:.1%} test accuracy after {info['epochs']} epochs: "
        f"{info['training_s']:.1f} s of training, {info['evaluation_s']:.1f} s of evaluation"
        for info in (benchmark["extra_info"] for benchmark in document["benchmarks"])
        if info.get("part") == "time to accuracy"
    ]
    rates = [benchmark["extra_info"].get("images_per_second") for benchmark in document["benchmarks"]]
    noisy = sum(rate is not None and _spread(rate) > NOISY for rate in rates)
    if noisy:
        notes.append(
            f"{noisy} of {len(rates)} benchmarks have an interquartile range above {NOISY:.0%}: something else used "
            "the machine. Measure again when it is quiet, or with --threads 1, which suffers less."
        )
    return notes


def as_rich(document: Mapping[str, Any]) -> Table:
    """Lay the rows out for a terminal."""
    table = Table(
        caption=escape(caption(document)), caption_justify="left", show_edge=False, pad_edge=False, box=SIMPLE_HEAD
    )
    several = len({row.device for row in rows(document)}) > 1
    for heading in (("device",) if several else ()) + HEADINGS:
        table.add_column(heading, justify="left" if heading in ("device", "limited by") else "right")
    for row in rows(document):
        table.add_row(*((row.device,) if several else ()), *map(escape, _cells(row)))
    return table


def as_markdown(document: Mapping[str, Any]) -> str:
    """Lay the rows out as a Markdown table with the caption beneath."""
    lines = ["| device | " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * (len(HEADINGS) - 1) + "---|"]
    lines += ["| " + " | ".join((row.device, *_cells(row))) + " |" for row in rows(document)]
    return "\n".join([*lines, "", f"*{caption(document)}.*"]) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    return (str(row.batch_size), *row.cells, row.memory, row.limit)


def _throughput(info: Mapping[str, Any] | None) -> str:
    if info is None:
        return "-"
    rate = info["images_per_second"]
    return f"{short(rate['median'])} [{_spread(rate):.0%}]"


def _spread(rate: Mapping[str, float]) -> float:
    return (rate["q3"] - rate["q1"]) / rate["median"]


def _memory(parts: Any) -> str:
    peaks = [info["peak_memory_mib"] for info in parts if info.get("peak_memory_mib") is not None]
    return f"{max(peaks):.0f} MiB" if peaks else "-"


def short(rate: float) -> str:
    """Write a rate with three digits: 987, 12.3k, 456k, 7.89M."""
    thousands = 0
    while rate >= 999.5:
        rate, thousands = rate / 1000, thousands + 1
    unit = ("", "k", "M", "G", "T")[thousands]
    return f"{rate:.3g}{unit}" if rate < 100 else f"{rate:.0f}{unit}"
