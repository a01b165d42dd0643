"""``python -m benchmarks.peers``: an epoch of the lesson in other frameworks and in our engines, all in one run.

Each entry has a process of its own. Its start and its first epoch are timed apart. In each round every entry then
trains one epoch, in random order, one entry at a time. Losses are compared with the reference's, epoch by epoch.
Entries whose framework is not installed are listed. Ctrl-C keeps the epochs that were measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mnist_loop.compare.journal import Journal
from mnist_loop.errors import UserError
from mnist_loop.support.options import duration, positive_int, seed, thread_count

from . import entries, outcome, tables, task
from .rounds import Line, PeersPlan, PeersRun

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Measure, or show what is stored."""
    asked = _parser().parse_args(arguments)
    try:
        if asked.show is not None:
            sys.stdout.write(tables.peers_markdown(outcome.read_outcome(asked.show)))
            return 0
        return _measure(asked)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    add = parser.add_argument
    add("--entries", type=_names, default=entries.NAMES, metavar="A,B,C", help="default: all; the reference always")
    add("--rounds", type=positive_int, default=10, metavar="N", help="epochs of each, besides the first (default 10)")
    add("--threads", type=thread_count, default=2, metavar="N", help="of each (default 2)")
    add("--batch-size", type=positive_int, default=64, metavar="N", help="default 64")
    add("--images", type=positive_int, metavar="N", help="in an epoch (default: all)")
    add("--seed", type=seed, default=0, metavar="N", help="of weights, order of images and of turns (default 0)")
    add("--limit", type=duration, default=300.0, metavar="TIME", help="of a start, of an epoch (default 5m)")
    add("--synthetic", action="store_true", help="train on the built-in stand-in, not on MNIST")
    add("-o", "--output", type=Path, metavar="FILE", help="store each measurement as it is made, as JSON Lines")
    add("--show", type=Path, metavar="FILE", help="run nothing: print the tables of a stored result as Markdown")
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = text.split(",")
    for name in names:
        if name not in entries.NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} found, expected {', '.join(entries.NAMES)}")
    return tuple(name for name in entries.NAMES if name in names or name == entries.REFERENCE)


def _measure(asked: argparse.Namespace) -> int:
    from mnist_loop.data import load_data  # --help and --show do not wait for torch

    data = load_data("digits" if asked.synthetic else None)
    _say(data.note)
    plan = PeersPlan(asked.entries, asked.rounds, asked.threads, asked.seed, asked.limit)
    made = task.make_task(data, asked.images, asked.batch_size, asked.seed)
    with _written(asked.output) as write, tempfile.TemporaryDirectory() as folder:
        run = PeersRun(plan, made, Path(folder), write, _say)
        try:
            run.run()
            code = 0
        except KeyboardInterrupt:
            code = INTERRUPTED
        except UserError as error:  # the disk is full, say
            _say(str(error))
            code = 2
    if run.lines:
        sys.stdout.write(tables.peers_markdown(outcome.outcome_of(run.lines)))
    return code


@contextmanager
def _written(path: Path | None) -> Iterator[Callable[[Line], object]]:
    """Yield what writes each line to ``path``, or nowhere.

    Raises:
        UserError: there is a file already, or it cannot be written.
    """
    if path is None:
        yield lambda _: None
        return
    if path.exists():
        raise UserError(f"{path}: is there already, expected the name of a new file")
    journal = Journal(path)
    try:
        yield journal.write
    finally:
        journal.close()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
