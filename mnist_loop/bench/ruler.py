"""The ruler: the rates of the machine itself, measured with the torch and the threads of the benchmarks.

Three rates bound a training step: that of arithmetic (large matrix products), that of memory (a large copy), and
that of dispatch (an operation on one element).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from mnist_loop.support.device import synchronise

# The rate of a product of this size no longer grows: on CPUs with up to about 16 cores, and on GPUs.
GEMM_SIZE = {"cpu": 1536}
GEMM_SIZE_ELSEWHERE = 8192
# More than the last-level cache of a socket.
COPIED_BYTES = 256 * 2**20
DISPATCHES = 2000
REPEATS = 3  # the median of three leaves one disturbance out


@dataclass(frozen=True)
class MachineRates:
    """The rates of one device.

    Attributes:
        gemm: of float32 matrix products, FLOP/s; on the CPU of the faster of torch's two libraries, BLAS and oneDNN.
        copy: of a copy, bytes read plus bytes written a second.
        dispatch: seconds of an operation on a tensor of one element, without waiting for the device between them.
    """

    gemm: float
    copy: float
    dispatch: float


def measure_ruler(device: torch.device) -> MachineRates:
    """Measure ``device`` with torch's present number of threads; less than a second on a CPU."""
    return MachineRates(gemm=_gemm(device), copy=_copy(device), dispatch=_dispatch(device))


def _gemm(device: torch.device) -> float:
    size = GEMM_SIZE.get(device.type, GEMM_SIZE_ELSEWHERE)
    left, right, product = (torch.zeros(size, size, device=device) for _ in range(3))
    seconds = _seconds(lambda: torch.mm(left, right, out=product), device)
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        onednn = torch.ops.mkldnn._linear_pointwise
        seconds = min(seconds, _seconds(lambda: onednn(left, right, None, "none", [], ""), device))
    return 2 * size**3 / seconds


def _copy(device: torch.device) -> float:
    source, target = (torch.zeros(COPIED_BYTES // 4, device=device) for _ in range(2))
    return 2 * COPIED_BYTES / _seconds(lambda: target.copy_(source), device)


def _dispatch(device: torch.device) -> float:
    number = torch.zeros(1, device=device)

    def dispatch() -> None:
        for _ in range(DISPATCHES):
            number.add_(1)

    return _seconds(dispatch, device) / DISPATCHES


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    work()  # touches the pages, loads the kernels
    seconds = []
    for _ in range(REPEATS):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return median(seconds)
