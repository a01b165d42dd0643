"""The command line: ``mnist-loop train`` and ``mnist-loop bench``. One module a command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from mnist_loop import __version__
from mnist_loop.cli import bench, train
from mnist_loop.errors import UserError

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 a missed target, 2 misuse, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="mnist-loop", description="The MNIST training loop that can be trusted, and how fast it is here."
    )
    parser.add_argument("--version", action="version", version=f"mnist-loop {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    train.add_parser(commands)
    bench.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        exit_code: int = arguments.run(arguments)
        sys.stdout.flush()
    except UserError as error:
        sys.stderr.write(f"mnist-loop: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nmnist-loop: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe has gone (`| head`). Point stdout nowhere, so that the exit is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return exit_code
