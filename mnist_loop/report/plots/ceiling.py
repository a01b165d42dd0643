"""The upper limit that the machine's matrix products set to the images per second of a training step."""

from __future__ import annotations

from mnist_loop.report.shares import flops_an_image, layer_sizes


def ceiling(model: str, gemm: float) -> float | None:
    """Return the images per second that matrix products of ``gemm`` FLOP/s allow; None for a model without layers.

    Biases, ReLU, loss and the update of the weights are left out: below 1% of the arithmetic.
    """
    flops = flops_an_image("step", layer_sizes(model))
    return gemm / flops if flops else None
