"""Throughput as shares of the ruler: of the machine's matrix products, memory bandwidth and dispatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mnist_loop.report.stored import RulerResult, WorkloadId

FLOAT32_BYTES = 4
FLOPS_A_MULTIPLY_ADD = 2
EPOCH = " epoch"  # the end of an engine's part, after its name


@dataclass(frozen=True)
class Shares:
    """A throughput relative to the ruler.

    Attributes:
        gemm: rate of the part's matrix products / rate of large ones; None where the part has none.
        copy: bandwidth of reading each image once / bandwidth of a large copy.
        dispatches: one-element operations that fit one after the other into the time of a batch.
    """

    gemm: float | None
    copy: float | None
    dispatches: float


def shares(rate: float, workload: WorkloadId, ruler: RulerResult) -> Shares:
    """Return the shares of a throughput of ``rate`` images per second."""
    sizes = layer_sizes(workload.model)
    flops = flops_an_image(workload.part, sizes)
    return Shares(
        gemm=None if flops is None else rate * flops / ruler.gemm,
        copy=rate * sizes[0] * FLOAT32_BYTES / ruler.copy if sizes else None,
        dispatches=workload.batch_size / rate / ruler.dispatch,
    )


def flops_an_image(part: str, sizes: Sequence[int]) -> int | None:
    """Return the floating-point operations of the matrix products for one image; None where they are not known.

    A layer has one product forward, one for the gradient of its weights, and, except for the first layer, one for the
    gradient of its input.
    """
    layers = [wide * high for wide, high in pairwise(sizes)]
    if part.endswith(EPOCH):
        part = "end to end"
    multiply_adds = {
        "evaluation": sum(layers),
        "step": 3 * sum(layers) - sum(layers[:1]),
        "end to end": 3 * sum(layers) - sum(layers[:1]),
    }.get(part)
    return FLOPS_A_MULTIPLY_ADD * multiply_adds if multiply_adds else None


def layer_sizes(model: str) -> list[int]:
    """Return the layer sizes of a name like "784-128-10"; no sizes for another name."""
    sizes = model.split("-")
    # At most nine digits: a longer number in a file is no layer size.
    return [int(size) for size in sizes] if all(s.isascii() and s.isdecimal() and len(s) < 10 for s in sizes) else []
