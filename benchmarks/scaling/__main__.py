"""``python -m benchmarks.scaling``: how data-parallel training would scale to 1024 workers.

Two processes on this machine are measured for some minutes; a model of a step is fitted and checked with them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mnist_loop.bench import machine
from mnist_loop.errors import UserError
from mnist_loop.model import MLP
from mnist_loop.support.files import check_output, write_atomically
from mnist_loop.support.leftovers import temporary_folder

from .tables import read_scaling, scaling_markdown

ASKED: dict[str, list[float]] = {
    "shares": [32, 128, 512, 2048],  # images of each worker
    "waits": [0.0, 1e-3, 4e-3],  # seconds after each exchange
    "sizes": [4, 2**14, 2**17, 2**19, 2**22],  # bytes of an all-reduce
    "steps": [20],
    "rounds": [15],
}
LIMIT_S = 1800


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and store, or show what is stored."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", help="measure, and write the result (JSON)")
    parser.add_argument("--rounds", type=int, default=ASKED["rounds"][0], metavar="N", help="turns of all arms (15)")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the tables of FILE as Markdown")
    asked = parser.parse_args(argv)
    if (asked.output is None) == (asked.show is None):
        parser.error("expected -o FILE or --show FILE")
    try:
        if asked.show is None:
            check_output(asked.output)
            result = json.dumps(measured({**ASKED, "rounds": [asked.rounds]})) + "\n"
            write_atomically(asked.output, result.encode())
        sys.stdout.write(scaling_markdown(read_scaling(asked.show or asked.output)))
    except UserError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    return 0


def measured(asked: dict[str, list[float]]) -> dict[str, Any]:
    """Let two processes measure; return the result."""
    package = __package__ or ""
    folder = Path(__file__).parents[package.count(".") + 1]  # in which Python finds this very package
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with torch.device("meta"):
        parameters = list(MLP().parameters())
    with temporary_folder("scaling") as own:
        file = own / "found.json"
        done = subprocess.run(
            [*torchrun, "-m", f"{package}.worker", str(file), json.dumps(asked)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            timeout=LIMIT_S,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"torchrun fails: {done.stderr}")
        return {
            "machine": machine.label(),
            "torch": torch.__version__,
            "cpus": machine.available_cpus(),
            "state": machine.current_state(),
            "gradient_bytes": sum(4 * parameter.numel() for parameter in parameters),
            "asked": asked,
            "seconds": json.loads(file.read_text("utf-8")),
        }


if __name__ == "__main__":
    sys.exit(main())
