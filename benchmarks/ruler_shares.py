"""``python -m benchmarks.ruler_shares``: which share of the rate of large matrix products an engine reaches.

Epochs and products take turns, so that another program on the machine slows both down. On one thread the time is that
of the CPU, which leaves out when another program ran. Each epoch's loss is compared with the lesson's in float64.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_loop.bench import machine
from mnist_loop.bench.ruler import GEMM_SIZE
from mnist_loop.bench.workloads import EpochWorkload
from mnist_loop.data import load_data
from mnist_loop.engines import IN_ONE_PROCESS
from mnist_loop.report.shares import flops_an_image
from mnist_loop.report.tables.markdown import to_markdown
from mnist_loop.report.tables.table import Column, Table
from mnist_loop.support.files import check_output, write_atomically
from mnist_loop.support.numbers import short, with_unit
from mnist_loop.support.options import positive_int, thread_count

BATCH_SIZES = (16, 64, 256, 1024, 4096, 16384)
IMAGES = 8192  # in an epoch, or two batches: some tens of milliseconds
LAYERS = (784, 128, 10)
CPU = torch.device("cpu")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, store if asked, and print the table."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name if __spec__ else __name__}", description=__doc__)
    parser.add_argument("--engine", choices=IN_ONE_PROCESS, default="native")
    parser.add_argument("--threads", type=thread_count, default=1, metavar="N", help="default: 1")
    parser.add_argument("--rounds", type=positive_int, default=25, metavar="N", help="default: 25")
    parser.add_argument("--data", metavar="WHERE", help="as of mnist-loop bench")
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", help="store the result (JSON)")
    asked = parser.parse_args(argv)
    if asked.output is not None:
        check_output(asked.output)
    before = torch.get_num_threads()
    torch.set_num_threads(asked.threads)
    try:
        result = measured(asked.engine, asked.rounds, asked.data)
    finally:
        torch.set_num_threads(before)
    if asked.output is not None:
        write_atomically(asked.output, f"{json.dumps(result)}\n".encode())
    sys.stdout.write(shares_markdown(result))
    return 0


def measured(engine: str, rounds: int, where: str | None, sizes: Sequence[int] = BATCH_SIZES) -> dict[str, Any]:
    """Return the images per second of each round by batch size, and the FLOP/s of all products between them."""
    data = load_data(where)
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    products = _products()
    rulers: dict[str, list[float]] = {library: [] for library in products}
    work = {size: EpochWorkload(data, size, CPU, engine=engine) for size in sizes}
    steps = {size: min(work[size].most_steps, max(2, IMAGES // size)) for size in sizes}
    expected = {size: work[size].expected(steps[size]) for size in sizes}
    rates: dict[str, list[float]] = {str(size): [] for size in sizes}
    for turn in range(1 + rounds):  # the first one is not timed: it loads the kernels
        for size in sizes:
            epoch = work[size].prepare(steps[size])
            began = clock()
            loss = epoch()
            seconds = clock() - began
            work[size].check(loss, expected[size], steps[size])
            if turn:
                rates[str(size)].append(steps[size] * size / seconds)
            for library, multiply in products.items():
                began = clock()
                multiply()
                seconds = clock() - began
                if turn:
                    rulers[library].append(2 * GEMM_SIZE["cpu"] ** 3 / seconds)
    facts = {"machine": machine.label(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    return {**facts, "state": machine.current_state(), "engine": engine, "ruler": rulers, "rates": rates}


def _products() -> dict[str, Callable[[], Tensor]]:
    """Return a large product by each of torch's libraries."""
    left, right, product = (torch.zeros(GEMM_SIZE["cpu"], GEMM_SIZE["cpu"]) for _ in range(3))
    found: dict[str, Callable[[], Tensor]] = {"BLAS": lambda: torch.mm(left, right, out=product)}
    if torch.backends.mkldnn.is_available():
        found["oneDNN"] = lambda: torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return found


def shares_markdown(result: dict[str, Any]) -> str:
    """Lay a result out as Markdown, by the upper quartile: other programs only make slower."""
    flops = flops_an_image(" epoch", LAYERS)
    library, ruler = max(
        ((name, float(np.quantile(rates, 0.75))) for name, rates in result["ruler"].items()), key=lambda pair: pair[1]
    )
    assert flops is not None
    rates = {size: float(np.quantile(rates, 0.75)) for size, rates in result["rates"].items()}
    rows = [(size, f"{short(rate)}", f"{rate * flops / ruler:.2f}") for size, rate in rates.items()]
    rounds = len(next(iter(result["rates"].values())))
    caption = (
        f"{result['machine']}; torch {result['torch']}; CPU threads: {result['threads']}; large products: "
        f"{with_unit(ruler, 'FLOP/s')} ({library}); upper quartiles of {rounds} rounds"
    )
    columns = [Column("batch size"), Column(f"images/s of {result['engine']}"), Column("share of large products")]
    return to_markdown([Table("", columns, rows, caption)])


if __name__ == "__main__":
    sys.exit(main())
