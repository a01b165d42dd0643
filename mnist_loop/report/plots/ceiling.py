"""The arithmetic of a training step, and the upper limit that it sets to images per second."""

from __future__ import annotations

import math

from mnist_loop.report.shares import flops_an_image, layer_sizes


def flop_per_image(model: str) -> int | None:
    """Return the floating-point operations that one training step spends on an image in the layers of an MLP.

    For layers of n inputs and m outputs, forward takes n m multiply-adds, the gradient of the weights the same, and the
    gradient of the inputs the same again, save in the first layer, whose inputs are data. For 784-128-10 that is
    2 (2 (784 * 128 + 128 * 10) + 128 * 10). Biases, ReLU, loss and the update of the weights are left out: below 1%
    of it, and no matrix product.

    Args:
        model: widths of the layers, "784-128-10".

    Returns:
        None where ``model`` is no such list.
    """
    return flops_an_image("step", layer_sizes(model))


def ceiling(model: str, gemm: float) -> float | None:
    """Return the images per second that matrix products of ``gemm`` FLOP/s allow, None where that is not known."""
    flop = flop_per_image(model)
    return gemm / flop if flop and math.isfinite(gemm) and gemm > 0 else None
