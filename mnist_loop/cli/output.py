"""The options of ``verify`` and ``check`` that say how a verdict is written, and where."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mnist_loop.errors import UserError
from mnist_loop.support import console
from mnist_loop.support.files import check_output, check_room, write_atomically
from mnist_loop.verdict.formats import FORMATS, is_verdict, rendered, write_verdict
from mnist_loop.verdict.text import summary

if TYPE_CHECKING:
    from mnist_loop.verdict.verdict import Verdict

STDOUT = "-"
BY_SUFFIX = {".json": "json", ".sarif": "sarif", ".xml": "junit", ".txt": "text"}


@dataclass(frozen=True)
class Outputs:
    """Where a verdict goes.

    Attributes:
        stdout: the format of what is printed.
        files: the formats of what is written to files.
        every_law: text has a line for each law.
    """

    stdout: str
    files: tuple[tuple[str, Path], ...] = ()
    every_law: bool = False

    @property
    def is_text(self) -> bool:
        """Whether stdout is for people; else it is for the document alone."""
        return self.stdout == "text"

    def write(self, verdict: Verdict, text_to: TextIO | None = None) -> None:
        """Print the verdict, then write the files; beside a document on stdout, the count is on stderr.

        Args:
            verdict: what was found.
            text_to: where text goes; None for stdout.

        Raises:
            UserError: a file cannot be written.
        """
        stream = sys.stdout if text_to is None or not self.is_text else text_to
        write_verdict(verdict, self.stdout, stream, every_law=self.every_law)
        if not self.is_text:
            console.write([console.Paragraph(summary(verdict))], sys.stderr)
        for kind, file in self.files:
            content = rendered(verdict, kind, io.StringIO(), every_law=self.every_law)
            try:
                write_atomically(file, content.encode(errors="backslashreplace"))
            except OSError as error:
                raise UserError(
                    f"{file}: cannot be written ({error.strerror}), expected room for the verdict: write it elsewhere"
                ) from None


def add_output_options(parser: argparse.ArgumentParser, *, json_takes_file: bool) -> None:
    """Add the options to the parser of a command that finds a verdict.

    Args:
        parser: of the command.
        json_takes_file: ``--json`` may be followed by a file. It may not where a script's name would be taken for one.
    """
    add = parser.add_argument
    add("--format", choices=FORMATS, help="how the verdict is written (default text)")
    add(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write it to FILE, in the format of its ending (.json, .sarif, .xml, .txt) or of --format; print text",
    )
    if json_takes_file:
        to = "write the verdict as JSON to FILE, or to stdout alone"
        add("--json", nargs="?", const=STDOUT, metavar="FILE", help=to)
    else:
        add("--json", action="store_const", const=STDOUT, help="write the verdict as JSON to stdout")
    add("--all", action="store_true", help="list every law: held, broken, or not run and why")


def outputs_of(arguments: argparse.Namespace, inputs: Iterable[Path] = (), usual: str = "text") -> Outputs:
    """Read the options, before anything runs.

    Args:
        arguments: of a parser with `add_output_options`.
        inputs: files that the command reads: they are no outputs.
        usual: the format where the options name none.

    Raises:
        UserError: stdout is asked for twice, or a file would be lost or cannot be written.
    """
    files: list[tuple[str, Path]] = []
    printed = arguments.format if arguments.output is None else None
    if arguments.output is not None:
        kind = arguments.format or BY_SUFFIX.get(arguments.output.suffix.lower())
        if kind is None:
            raise UserError(
                f"{arguments.output}: its ending names no format: expected {', '.join(BY_SUFFIX)}, or --format"
            )
        files.append((kind, arguments.output))
    if arguments.json == STDOUT:
        if printed not in (None, "json"):
            raise UserError(f"--json and --format {printed} found, expected one for stdout: give --json a file")
        printed = "json"
    elif arguments.json is not None:
        files.append(("json", Path(arguments.json)))
    inputs = list(inputs)
    for _, file in files:
        check_output(file, inputs, is_verdict)
        if not file.parent.is_dir():
            raise UserError(f"{file}: there is no folder {file.parent}, expected one for the verdict: make it")
        check_room(file)
    if len({file.resolve() for _, file in files}) < len(files):
        raise UserError(f"{files[0][1]}: found as two outputs, expected a file for each: name another one")
    return Outputs(printed or ("text" if arguments.output else usual), tuple(files), arguments.all)
