"""The tables of a stored result: the fit, its check, and how training would scale on named networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnist_loop.errors import UserError
from mnist_loop.report.tables.markdown import to_markdown
from mnist_loop.report.tables.table import Column, Table
from mnist_loop.statistics.step_time import StepTimeFit, fit_step_time
from mnist_loop.support.numbers import seconds, short

from .cost import NETWORKS, Network, StepCost

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
BATCH = 4096  # of all workers, in the table of strong scaling
SHARE = 256  # of each worker, in that of weak scaling
EFFICIENCY = 0.9


@dataclass(frozen=True)
class Fitted:
    """What was fitted: from steps of one worker (t0, r), and from all-reduces of two (latency, bandwidth)."""

    fit: StepTimeFit
    cost: StepCost
    loopback: Network


def fitted(stored: dict[str, Any]) -> Fitted:
    """Fit a stored result, by the lower quartile of each arm."""
    arms = _lower_quartiles(stored)
    shares = stored["asked"]["shares"]
    times = [arms[f"1 {share} 0.0"] for share in shares]
    fit = fit_step_time(shares, times, [float("nan")] * len(times))
    if fit is None:
        raise UserError("steps of one worker take no longer with more images; measure again on a quieter machine")
    sizes = stored["asked"]["sizes"]
    reduces = np.array([arms[f"all-reduce {size}"] for size in sizes])
    # T(size) = 2 latency + size / bandwidth, by relative errors; neither is negative
    design = np.array([[2.0, size] for size in sizes]) / reduces[:, None]
    latency, per_byte = np.linalg.lstsq(design, np.ones(len(sizes)), rcond=None)[0]
    loopback = Network("loopback, fitted", max(latency, 0.0), 1 / max(per_byte, 1e-12))
    return Fitted(fit, StepCost(fit.dispatch_s, fit.rate, stored["gradient_bytes"]), loopback)


def _lower_quartiles(stored: dict[str, Any]) -> dict[str, float]:
    """Other programs on the machine only make a step slower."""
    return {arm: float(np.quantile(np.concatenate(rounds), 0.25)) for arm, rounds in stored["seconds"].items()}


def scaling_markdown(stored: dict[str, Any]) -> str:
    """Lay a stored result and what follows from it out as Markdown."""
    found = fitted(stored)
    tables = [_check(stored, found), *(_by_network(found, *one) for one in _questions(found.cost))]
    return to_markdown(tables)


def _check(stored: dict[str, Any], found: Fitted) -> Table:
    arms, rows, loop = _lower_quartiles(stored), [], found.loopback
    for share in stored["asked"]["shares"]:
        for wait in stored["asked"]["waits"]:
            expected = found.cost.seconds(2 * share, 2, found.loopback, wait)
            measured = arms[f"2 {share} {wait}"]
            added = measured - arms[f"2 {share} 0.0"]
            rows.append(
                (
                    str(share),
                    seconds(wait),
                    seconds(measured),
                    seconds(expected),
                    f"{expected / measured - 1:+.0%}",
                    seconds(added) if wait else "-",
                )
            )
    headings = ("images a worker", "added wait", "measured", "model", "model is off by", "the wait adds")
    return Table(
        "A step of two workers, which was not fitted",
        [Column(heading) for heading in headings],
        rows,
        f"{stored['machine']}; torch {stored['torch']}; one thread a worker, gloo; lower quartile of "
        f"{stored['asked']['rounds'][0]} rounds",
        [
            f"Fitted to steps of one worker: t0 {seconds(found.cost.dispatch)}, r {short(found.cost.rate)} images/s.",
            f"The largest misfit of these steps is {found.fit.misfit:.0%}.",
            f"Fitted to all-reduces of two: {seconds(loop.latency)} a message, {short(loop.bandwidth)}B/s.",
            f"The gradients are {short(found.cost.size)}B.",
        ],
    )


Question = tuple[str, Callable[[int, Network], str]]


def _questions(cost: StepCost) -> list[Question]:
    return [
        (
            f"Strong scaling: a batch of {BATCH} images for all workers; times as fast as one worker",
            lambda workers, network: f"{cost.speedup(BATCH, workers, network):.3g}",
        ),
        (
            f"Weak scaling: {SHARE} images for each worker; share of the rate that the workers have alone",
            lambda workers, network: f"{cost.efficiency(SHARE, workers, network):.0%}",
        ),
        (
            f"Larger batches: images for each worker at which weak scaling reaches {EFFICIENCY:.0%}",
            lambda workers, network: short(cost.share_for(EFFICIENCY, workers, network)),
        ),
        (
            "Overlap: images for each worker whose backward pass lasts as long as the exchange",
            lambda workers, network: short(cost.share_hidden(workers, network)),
        ),
    ]


def _by_network(found: Fitted, title: str, value: Callable[[int, Network], str]) -> Table:
    networks = (found.loopback, *NETWORKS)
    rows = [
        (str(workers), *("-" if workers == 1 else value(workers, network) for network in networks))
        for workers in WORKERS
        if workers > 1
    ]
    return Table(title, [Column("workers"), *(Column(network.name) for network in networks)], rows)


def read_scaling(path: Path) -> dict[str, Any]:
    """Read a stored result."""
    stored: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return stored
