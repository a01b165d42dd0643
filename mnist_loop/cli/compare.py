"""``mnist-loop compare``: a paired comparison of environments, checkouts or settings, with a verdict."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_loop.errors import UserError
from mnist_loop.support.files import check_output, check_room
from mnist_loop.support.numbers import seconds
from mnist_loop.support.options import batch_sizes, duration, percentage, seed, thread_count

if TYPE_CHECKING:
    from mnist_loop.compare.comparison import Comparison
    from mnist_loop.compare.plan import Plan
    from mnist_loop.compare.request import ComparisonRequest
    from mnist_loop.statistics.judgement import CellDecision
    from mnist_loop.support.progress import Progress

PARTS = ("step", "evaluation", "input pipeline", "end to end")
FOLDER = Path(".benchmarks")
FAILED, INTERRUPTED = 1, 130
ENDED_WELL = ("certain", "budget", "full")
FAIL_ON = ("slower", "faster", "inconclusive")
EXAMPLES = """\
an arm is an environment (a tox environment, a venv, a Python), a checkout of the loop, . (this environment),
settings, or ENVIRONMENT:SETTINGS:

  mnist-loop compare .tox/py312-torch214 .tox/py312-torch215
  mnist-loop compare py312-torch29 py312-torch215 --batch-sizes 16,64,256,1024,4096 --budget 10m
  mnist-loop compare --set threads=1 --set threads=2
  mnist-loop compare --set engine=resident --set engine=compiled
  mnist-loop compare . .:dtype=bfloat16,batch_size=256
  mnist-loop compare ../main ../my-branch --margin 3% --fail-on slower

exit codes: 0 done, 1 a verdict of --fail-on, none for an arm, or arms that do not compute the same, 2 misuse or
a file that cannot be read back, 130 Ctrl-C;
what was measured is stored and `mnist-loop compare --continue FILE` goes on with it
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``compare`` to the command line."""
    parser = commands.add_parser(
        "compare",
        help="find out whether one environment or setting is slower than another",
        description=(
            "Measure the lesson in two or more environments or settings, in alternating blocks, until all verdicts are "
            "certain or the budget is spent. A second copy of the first arm shows by how much identical code differs."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("arms", nargs="*", metavar="ARM", help="the others are compared with the first")
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="threads, device, dtype, batch_size, engine, slowdown, or an environment variable in capitals: for all "
        "arms; with fewer than two arms, an arm of its own each",
    )
    add("--part", choices=PARTS, default="step", help="of the lesson (default: step)")
    add("--batch-sizes", type=batch_sizes, default=[64], metavar="LIST", help="default 64")
    add(
        "--data",
        metavar="WHERE",
        help="folder that holds MNIST/raw; or mnist: no stand-in; or digits: the stand-in, 55 MB in ./data",
    )
    add(
        "--device", default="auto", metavar="NAME", help="where an arm sets none (default: CUDA if there, else the CPU)"
    )
    add("--threads", type=thread_count, metavar="N", help="CPU threads, where an arm sets none (default: all)")
    add(
        "--margin", type=percentage, default=0.01, metavar="PERCENT", help="a smaller difference is none (default: 1%%)"
    )
    add("--budget", type=duration, metavar="TIME", help="measure for no longer: 30s, 10m (default: 60s)")
    add("--seed", type=seed, default=0, metavar="N", help="of the order of the blocks (default: 0)")
    add("--fail-on", choices=FAIL_ON, action="append", default=[], help="exit code 1 with such a verdict; repeatable")
    add("-o", "--output", type=Path, metavar="FILE", help="where every block is stored (default: .benchmarks/)")
    add("--continue", dest="go_on", type=Path, metavar="FILE", help="go on with a comparison that was interrupted")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare; return the exit code."""
    from mnist_loop.compare.comparison import LossesDiffer
    from mnist_loop.compare.crew import Crew
    from mnist_loop.support.progress import Progress
    from mnist_loop.support.wire import WorkerLost

    request = _request(arguments)
    comparison: Comparison | None = None
    with ExitStack() as opened:
        opened.callback(request.close)
        with Progress() as progress:
            crew = Crew(request.arms, request.plan, progress.status)
            try:
                began = time.perf_counter()
                crew.start()
                progress.status("checking that all arms compute the same")
                comparison = request.begin(crew, arguments.output, FOLDER, partial(_show, progress, request.plan))
                opened.callback(comparison.journal.close)
                progress.line(
                    f"{crew.note}; {len(crew.hosts)} processes started in {time.perf_counter() - began:.0f} s"
                )
                if short := request.plan.too_short(crew.apart):
                    progress.line(short)
                if arguments.go_on is not None:
                    progress.line(_budget(request.plan.budget_s, comparison.spent, arguments.budget is not None))
                why = comparison.run()
            except LossesDiffer as error:
                progress.line(str(error))
                _end(comparison, str(error))
                return FAILED
            except UserError as error:  # of an engine, say
                _end(comparison, str(error))
                raise
            except WorkerLost as error:
                why = str(error)
            except KeyboardInterrupt:
                why = "interrupted"
            finally:
                crew.close()
        if comparison is None:
            raise KeyboardInterrupt if why == "interrupted" else UserError(why)
        comparison.journal.end(why, comparison.spent)
        took = f"; {seconds(comparison.spent)} of measuring, {seconds(time.perf_counter() - began)} in all"
    return _conclude(comparison.journal.path, why, arguments.fail_on, took)


def _end(comparison: Comparison | None, why: str) -> None:
    """Write the end of a comparison that measures no more, where its file can still be written."""
    if comparison is not None:
        with suppress(UserError):
            comparison.journal.end(why, comparison.spent)


def _request(arguments: argparse.Namespace) -> ComparisonRequest:
    from mnist_loop.bench.machine import available_cpus
    from mnist_loop.compare.plan import Plan
    from mnist_loop.compare.request import continued_request, new_request
    from mnist_loop.report.reading import read_result
    from mnist_loop.report.reading.files import COMPRESSED
    from mnist_loop.report.stored import Refused

    if arguments.go_on is not None:
        if arguments.arms or arguments.set or arguments.output:
            raise UserError("--continue FILE goes on with what is in FILE: it takes --budget and --fail-on alone")
        request = continued_request(arguments.go_on, arguments.budget)
        found = read_result(arguments.go_on)
        if isinstance(found, Refused):  # it would be measured for nothing
            request.close()
            raise UserError(f"{arguments.go_on}: cannot be gone on with ({found.reason}): start a new comparison")
        return request
    if arguments.output is not None:
        check_output(arguments.output, instead=f"go on with it with --continue {arguments.output}, or name a new file")
        if arguments.output.suffix == COMPRESSED:
            raise UserError(f"{arguments.output}: is written as it is measured, and not compressed; name a .jsonl file")
    check_room(arguments.output or FOLDER / "comparison.jsonl")
    plan = Plan(
        part=arguments.part,
        batch_sizes=tuple(arguments.batch_sizes),
        data=arguments.data,
        device=arguments.device,
        threads=arguments.threads or available_cpus(),
        margin=arguments.margin,
        budget_s=arguments.budget or Plan.budget_s,
        seed=arguments.seed,
    )
    return new_request(arguments.arms, arguments.set, plan)


def _show(progress: Progress, plan: Plan, spent: float, judged: Sequence[CellDecision]) -> None:
    """Show the progress."""
    undecided = sum(not one.certain for one in judged)
    cells = f"{undecided} of {len(judged)} undecided, " if judged else ""
    minutes, seconds = divmod(max(0, round(plan.budget_s - spent)), 60)
    progress.status(f"measuring: {cells}at most {minutes:02}:{seconds:02} left")


def _budget(budget_s: float, spent: float, given: bool) -> str:
    """Return which budget holds for a comparison that goes on."""
    whose = "that of --budget" if given else "that of its start, as no --budget was given"
    left = max(0.0, budget_s - spent)
    return f"budget: {seconds(budget_s)} in all, {whose}; {seconds(spent)} are spent, {seconds(left)} are left"


def _conclude(path: Path, why: str, fail_on: Sequence[str], took: str = "") -> int:
    """Print the report of the file, and how long it took where that is known; return the exit code.

    Raises:
        UserError: the file cannot be read back.
    """
    from mnist_loop.cli.report import RENDERERS
    from mnist_loop.report.facts import WITHOUT_VERDICT
    from mnist_loop.report.reading import read_results

    results = read_results([path])
    for refused in results.refused:
        raise UserError(f"{path}: was stored, but cannot be read back ({refused.reason}); it has no verdict")
    sys.stdout.write(RENDERERS["terminal"](results))
    sys.stdout.write(f"stored in {path}{took}\n")
    if why not in ENDED_WELL:
        sys.stdout.write(f"{why}; mnist-loop compare --continue {path} goes on\n")
    verdicts = {cell.verdict.value.lower() for comparison in results.comparisons for cell in comparison.cells}
    if why == "interrupted":
        return INTERRUPTED
    without = [one.facts[WITHOUT_VERDICT] for one in results.comparisons if WITHOUT_VERDICT in one.facts]
    for names in without:
        sys.stdout.write(
            f"no verdict on {names}: measure longer with mnist-loop compare --continue {path} --budget TIME\n"
        )
    return FAILED if why not in ENDED_WELL or without or verdicts & set(fail_on) else 0
