"""The README's pictures: ``python -m tests.house.pictures`` writes docs/pictures/ (seconds).

- ``throughput.svg`` is the plot that ``mnist-loop report FILE --plots FOLDER`` makes of the README's stored result.
- ``finding.svg`` is what ``mnist-loop verify`` shows on a terminal for the README's broken loop.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from rich.console import Console
from rich.text import Text

from mnist_loop.cli import main as mnist_loop

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"
COMMAND = "mnist-loop verify my_train.py:train_one_epoch"
WIDTH = 106  # columns: the longest line that verify prints fits


def readme() -> str:
    """Return the README."""
    return (ROOT / "README.md").read_text(encoding="utf-8")


def throughput(folder: Path) -> str:
    """Return the plot of the README's stored result, as SVG; ``folder`` gets the files that the report writes."""
    result = re.search(r"<!-- results: (\S+) -->", readme())
    assert result is not None, "the README names no stored result"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert mnist_loop(["report", str(ROOT / result[1]), "--plots", str(folder)]) == 0
    (plot,) = folder.glob("parts-*.svg")
    return plot.read_text(encoding="utf-8")


def finding(folder: Path) -> str:
    """Return a terminal with the finding for the README's broken loop, as SVG; ``folder`` gets the loop."""
    loop = re.search(r"```python\n(def train_one_epoch.*?)```", readme(), re.DOTALL)
    assert loop is not None, "the README shows no loop"
    (folder / "my_train.py").write_text(loop[1], encoding="utf-8")
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text(f"$ {COMMAND}", style="bold"))
    console.print(Text.from_ansi("\n".join(_shown(COMMAND, folder))))
    svg = console.export_svg(title="mnist-loop verify", unique_id="finding")
    return re.sub(r" *@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)  # nothing is loaded from the network


class _Screen(io.StringIO):
    """A stdout that is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def _shown(command: str, folder: Path) -> list[str]:
    """Run a command in ``folder``; return the lines that it shows on a terminal."""
    terminal = {"TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
    with _working_in(folder), mock.patch.dict(os.environ, terminal), contextlib.redirect_stdout(_Screen()) as screen:
        os.environ.pop("NO_COLOR", None)
        assert mnist_loop(command.split()[1:]) == 1  # a bug was found
    return screen.getvalue().splitlines()


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main() -> None:
    """Write both pictures."""
    FOLDER.mkdir(exist_ok=True)
    for draw in (throughput, finding):
        with tempfile.TemporaryDirectory() as folder:
            (FOLDER / f"{draw.__name__}.svg").write_text(draw(Path(folder)), encoding="utf-8")
        sys.stdout.write(f"{FOLDER / draw.__name__}.svg\n")


if __name__ == "__main__":
    main()
