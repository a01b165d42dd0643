"""The command line, one module a command: ``train``, ``check``, ``verify``, ``bench``, ``compare``, ``report``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from mnist_loop import __version__
from mnist_loop.cli import bench, check, compare, report, train, verify
from mnist_loop.cli.signals import sigterm_as_ctrl_c
from mnist_loop.errors import UserError

MISUSED = 2
INTERRUPTED = 130  # after Ctrl-C, by convention: 128 + SIGINT
READER_GONE = 141  # after a closed pipe: 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Exit codes: 0 done, 1 a missed target or a bug that was found, 2 misuse, 130 Ctrl-C, 141 closed pipe.

    Without ``argv`` this is the program itself, which ignores Ctrl-C after the command has ended.
    """
    arguments = make_parser().parse_args(argv)
    try:
        return _run(arguments)
    finally:
        if argv is None:  # a second Ctrl-C would interrupt torch's cleanup, with a traceback
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser: argparse.ArgumentParser = _Parser(
        prog="mnist-loop", description="The MNIST training loop that can be trusted, and how fast it is here."
    )
    parser.add_argument("--version", action="version", version=f"mnist-loop {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    train.add_parser(commands)
    check.add_parser(commands)
    verify.add_parser(commands)
    bench.add_parser(commands)
    compare.add_parser(commands)
    report.add_parser(commands)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    try:
        with sigterm_as_ctrl_c():
            exit_code: int = arguments.run(arguments)
            # It is None where stdout was closed from the start; a program under check may close or replace it.
            with suppress(AttributeError, ValueError):
                sys.stdout.flush()
    except UserError as error:
        return _end(str(error), MISUSED)
    except KeyboardInterrupt:
        return _end("interrupted", INTERRUPTED)
    except BrokenPipeError:  # `| head`: quiet
        return _end("", READER_GONE)
    except OSError as error:  # such as a full disk behind `>`; expected errors are UserErrors
        return _end(f"stopped by the operating system: {error}", MISUSED)
    return exit_code


class _Parser(argparse.ArgumentParser):
    """Prints an error as one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(MISUSED, f"{self.prog}: {message}; see {self.prog} --help\n")


def _end(message: str, exit_code: int) -> int:
    """Print why the command ended, if that is possible; return ``exit_code``."""
    with suppress(OSError, AttributeError):  # stderr may be full or closed too
        if message:
            sys.stderr.write(f"mnist-loop: {message}\n")
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            # The interpreter flushes again at exit and would report an error: the text goes to the null device.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return exit_code
