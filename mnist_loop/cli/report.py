"""``mnist-loop report``: stored results as tables, a page, plots, or another tool's format."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_loop.errors import UserError

if TYPE_CHECKING:
    from mnist_loop.report.stored import StoredResults

DONE, FOUND, MISUSED = 0, 1, 2
BY_SUFFIX = {".html": "html", ".md": "markdown", ".csv": "csv", ".txt": "terminal"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``report`` to the command line."""
    parser = commands.add_parser(
        "report",
        help="show stored results",
        description=(
            "Show results that `mnist-loop bench` and `mnist-loop compare` stored, on any machine. Only results of the "
            "same data and model are compared. A file that cannot be read is named, and the others are shown."
        ),
        epilog="Exit codes: 0 done, 1 --fail-on found something, 2 misuse, or nothing could be read.",
    )
    add = parser.add_argument
    add("results", type=Path, nargs="+", metavar="RESULT", help="stored results, and folders of them")
    add(
        "--format",
        choices=tuple(RENDERERS),
        metavar="FORMAT",
        help=f"{', '.join(RENDERERS)} (default: by the ending of --output, else terminal)",
    )
    add("-o", "--output", type=Path, metavar="FILE", help="write it there instead of printing it")
    add("--plots", type=Path, metavar="FOLDER", help="write the plots there too, as PNG and SVG")
    add("--fail-on", choices=("slower",), metavar="slower", help="exit with 1 if a paired comparison found SLOWER")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show the results; return the exit code."""
    # numpy and scipy are behind these: `mnist-loop --help` does not wait for them.
    from mnist_loop.report.reading import read_results

    kind = arguments.format or _kind(arguments.output)
    if arguments.output is not None:
        _check(arguments.output, arguments.results)
    results = read_results(arguments.results)
    for refused in results.refused:
        _say(f"mnist-loop: {refused.file}: {refused.reason}\n")
    if not results.sweeps and not results.comparisons:
        return MISUSED
    if arguments.plots is not None:
        _plot(results, arguments.plots)
    _tell(results, kind, arguments.output)
    return FOUND if arguments.fail_on and any_slower(results) else DONE


def _tell(results: StoredResults, kind: str, output: Path | None) -> None:
    """Print the report, or write it to a file."""
    text = RENDERERS[kind](results)
    if output is not None:
        from mnist_loop.report.written import signed

        _write(output, signed(text, kind))
        _say(f"written: {output}\n")
    elif sys.stdout is not None:  # None in a program that is started with its stdout closed
        sys.stdout.write(_encodable(text))


def _check(file: Path, inputs: Sequence[Path]) -> None:
    from mnist_loop.report.written import is_report
    from mnist_loop.support.files import check_output

    check_output(file, inputs, is_report)


def any_slower(results: StoredResults) -> bool:
    """Whether a comparison found SLOWER; sweeps are too weak evidence to fail a run."""
    from mnist_loop.statistics.speed_verdict import SpeedVerdict

    return any(cell.verdict is SpeedVerdict.SLOWER for found in results.comparisons for cell in found.cells)


def _kind(output: Path | None) -> str:
    if output is None:
        return "terminal"
    try:
        return BY_SUFFIX[output.suffix.lower()]
    except KeyError:
        raise UserError(f"{output}: its ending names no format: expected {', '.join(BY_SUFFIX)}, or --format") from None


def _terminal(results: StoredResults) -> str:
    from io import StringIO

    from mnist_loop.report.tables import report_tables
    from mnist_loop.report.tables.terminal import to_terminal

    return to_terminal(report_tables(results), sys.stdout or StringIO())


def _markdown(results: StoredResults) -> str:
    from mnist_loop.report.tables import report_tables
    from mnist_loop.report.tables.markdown import to_markdown

    return to_markdown(report_tables(results))


def _csv(results: StoredResults) -> str:
    from mnist_loop.report.tables.csv_text import to_csv
    from mnist_loop.report.tables.tidy import tidy

    return to_csv(tidy(results))


def _html(results: StoredResults) -> str:
    from mnist_loop.report.page import to_html

    return to_html(results)


def _export(kind: str) -> Callable[[StoredResults], str]:
    def render(results: StoredResults) -> str:
        from mnist_loop.report.exports import EXPORTS

        return EXPORTS[kind](results)

    return render


RENDERERS: dict[str, Callable[[StoredResults], str]] = {
    "terminal": _terminal,
    "markdown": _markdown,
    "csv": _csv,
    "html": _html,
    **{kind: _export(kind) for kind in ("github", "bencher")},
}


def _plot(results: StoredResults, folder: Path) -> None:
    from mnist_loop.report.plots import save

    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = save(results, folder)
    except OSError as error:
        raise UserError(f"{folder}: plots cannot be written ({error.strerror})") from error
    _say(f"{len(files)} file{'' if len(files) == 1 else 's'} in {folder}\n")


def _write(file: Path, text: str) -> None:
    from mnist_loop.support.files import write_atomically

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text.encode())
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror}); what was there is untouched") from error


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)


def _encodable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
