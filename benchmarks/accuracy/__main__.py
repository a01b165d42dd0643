"""``python -m benchmarks.accuracy``: how long it takes a CPU to 97, 98 and 99 % of MNIST's test images.

The models and settings are in recipes.py. Each training is one line of the result, written when it ends: an interrupted
run continues when it is started again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch

from mnist_loop.bench import machine
from mnist_loop.cli.signals import sigterm_as_ctrl_c
from mnist_loop.data import load_data
from mnist_loop.engines.options import engine
from mnist_loop.errors import UserError
from mnist_loop.support.options import positive_int, thread_count

from .accuracy_table import accuracy_markdown
from .recipes import RECIPES
from .trainings import AccuracyBenchmark, read_trainings

RESULTS = Path("benchmarks/accuracy/results")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipes, or show what is stored."""
    parser = _Parser(prog=f"python -m {__package__}", description=__doc__)
    add = parser.add_argument
    add("--targets", type=targets, default=tuple(RECIPES), metavar="LIST", help="in per cent (default: 97,98,99)")
    add("--seeds", type=positive_int, default=10, metavar="N", help="of each, those already stored included (10)")
    add("--threads", type=thread_count, metavar="N", help="CPU threads (default: as many as this process may use)")
    add("--engine", type=engine, metavar="NAME", help="default: each recipe's own; resident where it cannot")
    add("--validation", action="store_true", help="hold out the last 10,000 training images; leave the test set alone")
    add("--data", metavar="WHERE", help="folder that holds MNIST/raw; or mnist: no stand-in; or digits: the stand-in")
    add("-o", dest="output", type=Path, metavar="FILE", help=f"JSON Lines (default: a name in {RESULTS})")
    add("--show", type=Path, metavar="FILE", help="run nothing: print the table of FILE as Markdown")
    asked = parser.parse_args(argv)
    threads = torch.get_num_threads()
    try:
        with sigterm_as_ctrl_c():
            return _run(asked)
    except UserError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    finally:
        torch.set_num_threads(threads)


def _run(asked: argparse.Namespace) -> int:
    if asked.show is not None:
        sys.stdout.write(accuracy_markdown(*read_trainings(asked.show)))
        return 0
    torch.set_num_threads(asked.threads or machine.available_cpus())
    data = load_data(asked.data)
    _say(data.note)
    recipes = [RECIPES[target] for target in asked.targets]
    benchmark = AccuracyBenchmark(recipes, asked.seeds, data, asked.engine, asked.validation)
    path = asked.output or RESULTS / _name(asked)
    code = 0
    try:
        benchmark.run(path, _say)
    except KeyboardInterrupt:
        code = 130
    if path.exists():
        sys.stdout.write(f"\n{accuracy_markdown(*read_trainings(path))}\n{path}\n")
    return code


def targets(text: str) -> tuple[int, ...]:
    """Read targets separated by commas, in rising order and each once."""
    known = {str(target): target for target in RECIPES}
    parts = {part.strip().removesuffix("%").strip() for part in text.split(",")}
    if not parts <= known.keys():
        raise argparse.ArgumentTypeError(f"{text!r} found, expected some of {','.join(known)}")
    return tuple(sorted(known[part] for part in parts))


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without ten lines of usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _name(asked: argparse.Namespace) -> str:
    engine = f"_{asked.engine}" if asked.engine else ""
    which = "-".join(map(str, asked.targets))
    suffix = "_validation" * asked.validation
    return (
        f"{machine.label()}_torch-{torch.__version__}_{which}_threads-{torch.get_num_threads()}{engine}{suffix}.jsonl"
    )


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a command's output


if __name__ == "__main__":
    sys.exit(main())
