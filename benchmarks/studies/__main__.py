"""``python -m benchmarks.studies``: many comparisons whose truth is known, and how often the verdict was right.

The second arm is the first one with a busy wait in each step, or, at 0 %, the same. Each comparison is one line of the
result, written when it ends: an interrupted study continues when it is started again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mnist_loop.errors import UserError
from mnist_loop.support.options import duration, percentage, positive_int, thread_count

from .background_load import background_load
from .study import Study
from .verdict_counts import read_studies, studies_markdown

RESULTS = Path("benchmarks/studies/results")


def main() -> int:
    """Run a study, or show what is stored."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    add = parser.add_argument
    add("--slowdown", type=float, default=0.0, metavar="PERCENT", help="of the second arm (default: 0, identical code)")
    add("--comparisons", type=positive_int, default=40, metavar="N", help="in all, those already stored included")
    add("--first", type=int, default=0, metavar="N", help="number of the first: to make some elsewhere (default: 0)")
    add("--budget", type=duration, default=10.0, metavar="TIME", help="of each (default: 10s)")
    add("--margin", type=percentage, default=0.01, metavar="PERCENT", help="default 1%%")
    add("--threads", type=thread_count, default=1, metavar="N", help="default 1")
    add("--apart", action="store_true", help="the arms as two environments are: no process in common")
    add("--load", action="store_true", help="another process keeps one core busy now and then")
    add(
        "--restart-every", type=positive_int, default=10, metavar="N", help="comparisons between new hosts (default 10)"
    )
    add("--show", action="store_true", help="run nothing: print the table of all stored studies as Markdown")
    add("--folder", type=Path, default=RESULTS, help=f"where results are (default: {RESULTS})")
    asked = parser.parse_args()
    if asked.show:
        sys.stdout.write(studies_markdown(read_studies(asked.folder)))
        return 0
    study = Study(
        slowdown=asked.slowdown / 100,
        comparisons=asked.comparisons,
        budget_s=asked.budget,
        margin=asked.margin,
        threads=asked.threads,
        loaded=asked.load,
        restart_every=1 if asked.apart else asked.restart_every,
        apart=asked.apart,
    )
    try:
        with background_load(asked.load):
            study.run(asked.folder, lambda text: print(text, flush=True), asked.first)  # noqa: T201  # a command's output
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
