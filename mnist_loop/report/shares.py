"""Throughput as a share of what the machine can do at all: its matrix products, its memory, its dispatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mnist_loop.report.stored import RulerResult, WorkloadId

FLOAT32_BYTES = 4
FLOPS_A_MULTIPLY_ADD = 2
EPOCH = " epoch"  # what the part of an engine ends with, after its name


@dataclass(frozen=True)
class Shares:
    """A measured throughput beside the ruler.

    Attributes:
        gemm: share of the rate of large matrix products that the part's own products reach; None where it has none.
        copy: share of the copy bandwidth that reading each image once takes.
        dispatches: one-element operations that could be started one after the other in the time of a batch.
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

    Forward, each layer is one product. Backward, each has one for its weights' gradient, and each but the first one
    for its input's gradient.
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
    """Return the sizes of "784-128-10"; none where the model is called otherwise."""
    sizes = model.split("-")
    # No layer of a model that anyone trains has more than nine digits of units.
    return [int(size) for size in sizes] if all(s.isascii() and s.isdecimal() and len(s) < 10 for s in sizes) else []
