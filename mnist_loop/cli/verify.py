"""``mnist-loop verify``: hold a training loop to the laws, and name its bugs."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_loop import bugs as catalogue
from mnist_loop.cli.output import STDOUT, add_output_options, outputs_of
from mnist_loop.cli.signals import held_back
from mnist_loop.errors import UserError
from mnist_loop.support import console
from mnist_loop.support.collection import uncollected
from mnist_loop.support.options import LAST_SEED, MOST_AT_ONCE, positive_float, seed
from mnist_loop.verdict import explain
from mnist_loop.verdict.expected import read_expected
from mnist_loop.verdict.settings import read_settings
from mnist_loop.verification.binding.given import read_given
from mnist_loop.verification.binding.intentions import declared_for, read_declarations

if TYPE_CHECKING:
    from mnist_loop.verdict.verdict import Verdict

OnCase = Callable[[int, int], None]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``verify`` to the command line."""
    parser = commands.add_parser(
        "verify",
        help="hold a training loop of yours to the laws, and name its bug",
        description=(
            "Try a training loop in small cases, compare each step with the same training replayed by hand, and name "
            "the bug: mnist-loop verify my_train.py:train_one_epoch"
        ),
        epilog="Exit codes: 0 no bug, or expected ones alone; 1 a bug, or nothing could be run; 2 misuse; 130 Ctrl-C.",
    )
    add = parser.add_argument
    add("loop", nargs="?", metavar="SPEC", help="the loop, as file.py:name or package.module:name")
    add("--evaluate", metavar="SPEC", help="what evaluates (default: found beside the loop); none: nothing does")
    add(
        "--declare",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an intention of the loop, e.g. clip=1.0 or keeps_best; may be repeated",
    )
    add(
        "--give",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a value for a parameter of the loop, or for a setting: gpu_id=0, args.warm=False; may be repeated",
    )
    add_output_options(parser, json_takes_file=True)
    add("--timeout", type=positive_float, metavar="S", help="seconds that one case may take (default 60)")
    add("--cases", type=case_count, metavar="N", help="random cases after the fixed ones (default 10)")
    add("--seed", type=seed, default=0, metavar="N", help="seed of the random cases (default 0)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where the loop trains (default cpu)")
    add(
        "--in-process",
        action="store_true",
        help="run the loop in this process, for a debugger; nothing keeps it from changing your files",
    )
    add("--expect-failures", type=Path, metavar="FILE", help="known bugs, a line `id: reason` for each")
    add("--only", type=law_ids, metavar="ID,ID", help="hold it to these laws alone")
    add("--list", action="store_true", help="run nothing: list all bugs")
    add("--explain", metavar="ID", help="run nothing: explain one bug")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify the loop, list the bugs or explain one; return the exit code."""
    if arguments.list or arguments.explain is not None:
        told = explain.listing() if arguments.list else explain.explanation(catalogue.get(arguments.explain))
        console.write(told, sys.stdout)
        return 0
    if arguments.loop is None and arguments.json not in (None, STDOUT):
        arguments.loop, arguments.json = arguments.json, STDOUT  # `verify --json my_train.py:train`
    if arguments.loop is None:
        raise UserError("no loop found, expected where one is: mnist-loop verify my_train.py:train_one_epoch")
    # The command line is checked before torch is loaded.
    settings = read_settings()
    expected = settings.expected if arguments.expect_failures is None else read_expected(arguments.expect_failures)
    declared = declared_for(settings, arguments.declare)
    arguments.give = read_given(arguments.give) or None
    if arguments.evaluate is not None and "evaluate" in read_declarations(arguments.declare):
        raise UserError("the evaluation found twice, expected it once: give --evaluate or --declare evaluate=")
    evaluate = declared.pop("evaluate", None)
    arguments.evaluate = evaluate if arguments.evaluate is None else arguments.evaluate
    outputs = outputs_of(arguments, _inputs(arguments), settings.format)
    verdict = _verify(arguments, declared, quiet=not outputs.is_text)
    verdict.expected, verdict.ignore = expected, settings.ignore
    outputs.write(verdict)
    return verdict.exit_code


def law_ids(text: str) -> tuple[str, ...]:
    """Read ids of bugs that a run can decide, separated by commas."""
    ids = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for id_ in ids:
        try:
            bug = catalogue.get(id_)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if bug.undecided:
            raise argparse.ArgumentTypeError(f"{id_!r} found, which no run decides, expected one that can be")
    return ids


def case_count(text: str) -> int:
    """Read a number of random cases, which may be 0."""
    count = int(text) if text.isascii() and text.isdecimal() and len(text) < len(str(LAST_SEED)) else -1
    if not 0 <= count <= MOST_AT_ONCE * MOST_AT_ONCE:
        expected = f"a whole number of at least 0 and at most {MOST_AT_ONCE * MOST_AT_ONCE}"
        raise argparse.ArgumentTypeError(f"{text!r} found, expected {expected}")
    return count


def _verify(arguments: argparse.Namespace, declared: dict[str, Any], *, quiet: bool) -> Verdict:
    given = {
        "laws": arguments.only,
        "give": arguments.give,
        "timeout": arguments.timeout,
        "random_cases": arguments.cases,
        "seed": arguments.seed,
        "device": arguments.device,
        "in_process": arguments.in_process,
    }
    with _bar() as (status, on_case):
        status("loading torch")
        with held_back(lambda: status("interrupted: ending as soon as torch is loaded")), uncollected():
            # torch loads it with the first optimizer of a process: here, the loop's time does not include it.
            import torch._dynamo  # noqa: F401

            from mnist_loop.verification.options import Options
            from mnist_loop.verification.verify import verify

        status("verifying")
        chosen = {name: value for name, value in given.items() if value is not None}
        options = Options(on_case=on_case, **chosen)
        # A loop that runs in this process prints to our stdout, which is for the document alone.
        aside = contextlib.redirect_stdout(sys.stderr or io.StringIO()) if quiet else contextlib.nullcontext()
        with aside:
            return verify(arguments.loop, arguments.evaluate, options, **declared)


@contextlib.contextmanager
def _bar() -> Iterator[tuple[Callable[[str], None], OnCase]]:
    """Show progress on stderr, if that is a terminal; yield the functions that update it."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield (lambda _: None), (lambda _done, _planned: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    # Without a refresh thread: the loop's process is forked from this one, and would inherit a lock held by the thread.
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=None)

        def on_case(done: int, planned: int) -> None:
            bar.update(task, description=f"case {done} of {planned}", completed=done, total=planned, refresh=True)

        yield (lambda text: bar.update(task, description=text, refresh=True)), on_case


def _inputs(arguments: argparse.Namespace) -> list[Path]:
    """Return the files that are read, and some that may not be there."""
    specs = [arguments.loop, arguments.evaluate, *(given.partition("=")[2] for given in arguments.declare)]
    inputs = [Path(spec.partition(":")[0]) for spec in specs if spec]
    return [*inputs, *filter(None, [arguments.expect_failures])]
