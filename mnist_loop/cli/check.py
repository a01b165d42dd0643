"""``mnist-loop check``: run a training as it is, watch it, and name its bugs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from mnist_loop import bugs as catalogue
from mnist_loop.cli.output import Outputs, add_output_options, outputs_of
from mnist_loop.cli.signals import TERMINATIONS
from mnist_loop.errors import UserError
from mnist_loop.support import console
from mnist_loop.support.options import positive_int
from mnist_loop.verdict import explain
from mnist_loop.verdict.expected import read_expected
from mnist_loop.verdict.settings import Settings, read_settings
from mnist_loop.watching.children import Children
from mnist_loop.watching.on_import import once_torch_is_imported
from mnist_loop.watching.program import Program, Stopped, module, run, script

if TYPE_CHECKING:
    from mnist_loop.verdict.verdict import Verdict
    from mnist_loop.watching.told import Told
    from mnist_loop.watching.watcher import Watcher

INTERRUPTED = 130
ENDED_BY = 128  # + the number of the signal
DEFINES = "A file that defines a training loop and does not run it is for mnist-loop verify FILE.py:NAME"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``check`` to the command line."""
    parser = commands.add_parser(
        "check",
        help="run a training script of yours as it is, and name its bugs",
        description=(
            "Run a script that trains, unmodified, watch what happens to which tensor in which order, and name the "
            "bug: mnist-loop check train.py --epochs 3. What follows the script's name is the script's."
        ),
        epilog=(
            "Exit codes: that of the script, if it fails; else 0 no bug, 1 a bug, or nothing that trains; 2 misuse; "
            "130 Ctrl-C."
        ),
    )
    add = parser.add_argument
    add("-m", dest="module", action="store_true", help="the program is a module, as for python -m")
    add("--stop-after", type=positive_int, metavar="N", help="end the training after N optimizer steps")
    add("--fail-fast", action="store_true", help="end the training at the first bug that is certain")
    add_output_options(parser, json_takes_file=False)
    add("--expect-failures", type=Path, metavar="FILE", help="known bugs, a line `id: reason` for each")
    add("--list", action="store_true", help="run nothing: list all bugs")
    add("--explain", metavar="ID", help="run nothing: explain one bug")
    add("program", nargs="?", metavar="SCRIPT", help="the script, notebook (.ipynb) or module")
    add("arguments", nargs=argparse.REMAINDER, metavar="...", help="what the script is given")
    parser.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    """Run a program, watch its training and tell the verdict; return the exit code."""
    if arguments.list or arguments.explain is not None:
        console.write(
            explain.listing() if arguments.list else explain.explanation(catalogue.get(arguments.explain)), sys.stdout
        )
        return 0
    if arguments.program is None:
        raise UserError("no script found, expected where one is: mnist-loop check train.py")
    program = _program(arguments)
    settings = read_settings()
    if arguments.expect_failures is not None:
        settings = replace(settings, expected=read_expected(arguments.expect_failures))
    outputs = outputs_of(arguments, map(Path, program.files), settings.format)
    check = _Check(program, settings, outputs, arguments.stop_after, arguments.fail_fast)
    once_torch_is_imported(check.begin)
    check.catch_endings()
    try:
        code = run(program)
    except KeyboardInterrupt:
        check.tell(complete=False)
        return INTERRUPTED
    verdict = check.tell(complete=code == 0 and not check.stopped)
    return code or (1 if verdict is None else verdict.exit_code)


def _program(arguments: argparse.Namespace) -> Program:
    if arguments.module:
        return module(arguments.program, arguments.arguments)
    if arguments.program.endswith(".ipynb"):
        from mnist_loop.watching.notebook import notebook

        return notebook(arguments.program, arguments.arguments)
    return script(arguments.program, arguments.arguments)


class _Check:
    """One program under watch."""

    def __init__(
        self, program: Program, settings: Settings, outputs: Outputs, stop_after: int | None, fail_fast: bool
    ) -> None:
        self.program, self.settings, self.outputs = program, settings, outputs
        self.stop_after, self.fail_fast = stop_after, fail_fast
        self.watcher: Watcher | None = None
        self.hooks: Any = None
        self.stopped = False
        self.children = Children()
        self.process = os.getpid()
        self.folder = Path.cwd()

    def begin(self) -> None:
        """Put the hooks in, now that torch is there."""
        from mnist_loop.watching.hooks import Hooks
        from mnist_loop.watching.watcher import Watcher

        self.watcher, self.hooks = Watcher(), Hooks()
        self.hooks.put_in()
        self.hooks.watch(self.watcher)
        if self.stop_after is not None or self.fail_fast:
            self.watcher.after_step = self.after_step

    def after_step(self, steps: int) -> None:
        """End the training where it has gone on for long enough."""
        if self.stop_after is not None and steps >= self.stop_after:
            self.stopped = True
        elif self.fail_fast and self.watcher is not None and self.watcher.closely:
            self.stopped = bool(self.verdict(self.watcher).unexpected())
        if self.stopped:
            raise Stopped

    def catch_endings(self) -> None:
        """Tell the verdict before SIGTERM, SIGHUP or ``os._exit`` ends this process, which is not asked again."""
        leave = os._exit

        def tell_and_leave(code: int) -> None:
            if os.getpid() == self.process:
                self.tell(complete=False)
                for stream in (sys.stdout, sys.stderr):
                    if stream is not None and stream is not sys.__stdout__:
                        stream.flush()
            leave(code)

        def terminated(number: int, _: FrameType | None) -> None:
            if os.getpid() == self.process:
                self.tell(complete=False)
            leave(ENDED_BY + number)

        os._exit = tell_and_leave  # type: ignore[assignment]
        for number in TERMINATIONS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, terminated)
        self.children.put_in()

    def verdict(self, watcher: Watcher, children: Sequence[Told] = ()) -> Verdict:
        """Return what is to be said so far."""
        from mnist_loop.watching.summary import verdict_on

        verdict = verdict_on(watcher, self.program.name, children)
        verdict.expected, verdict.ignore = self.settings.expected, self.settings.ignore
        return verdict

    def tell(self, *, complete: bool) -> Verdict | None:
        """Take the hooks out and show the verdict; None where torch was never imported."""
        children = self.children.take_out()
        if self.watcher is None and children:
            self.begin()
        if self.watcher is None:
            if complete:
                _show([f"{self.program.name} did not import torch: nothing was watched. {DEFINES}"])
            return None
        self.hooks.watch(None)
        self.hooks.take_out()
        watcher, self.watcher = self.watcher, None
        watcher.log.complete = complete
        watcher.log.processes = self.children.unwatched
        os.chdir(self.folder)  # the script may have gone elsewhere; places are told from here
        verdict = self.verdict(watcher, children)
        rank = os.environ.get("RANK", "0")  # torchrun runs this in several processes
        if rank == "0" or verdict.diagnoses:
            if rank != "0":
                _show([f"in the process of rank {rank}:"])
            self.outputs.write(verdict, sys.__stderr__)
            if complete and verdict.result == "nothing-run":
                _show([DEFINES])
        return verdict


def _show(lines: list[str]) -> None:
    if sys.__stderr__ is not None:
        sys.__stderr__.write("".join(f"mnist-loop: {line}\n" for line in lines))
