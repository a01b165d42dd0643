"""Lines of text, and on a terminal a progress bar with the remaining time beneath them."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

T = TypeVar("T", covariant=True)


class Sized(Protocol[T]):
    """Something that can be iterated over repeatedly and has a length, such as a DataLoader."""

    def __iter__(self) -> Iterator[T]: ...

    def __len__(self) -> int: ...


class Progress:
    """Prints lines, and on a terminal a progress bar beneath them.

    In a pipe or a file there are only the lines.

    Args:
        to_stderr: print to stderr, because stdout is for results.
        silent: print nothing.
    """

    def __init__(self, *, to_stderr: bool = False, silent: bool = False) -> None:
        # stdout is None in a program that is started with it closed.
        stream = sys.stderr if to_stderr else sys.stdout
        self._stream = io.StringIO() if silent or stream is None else stream
        self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            *map(
                _OnceCounted,
                (BarColumn(), MofNCompleteColumn(), TextColumn("batches, remaining"), TimeRemainingColumn()),
            ),
            console=self._console,
            transient=True,
            disable=not self._stream.isatty(),
        )
        self._task = self._bar.add_task("", total=None, visible=False)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a line that stays."""
        if self._bar.disable:
            # rich would end the program with an exit code of its own if the reader of the pipe has gone.
            self._stream.write(f"{text}\n")
            self._stream.flush()
        else:
            self._console.print(text)

    def status(self, text: str, total: int | None = None) -> None:
        """Set the text of the progress bar, and the number of batches if it is known."""
        self._bar.reset(self._task, description=text, total=total, visible=True)

    def counted(self, loader: Sized[T]) -> Counted[T]:
        """Return a loader that yields the batches of ``loader`` and counts each."""
        return Counted(loader, self)

    def advance(self) -> None:
        """Count one batch."""
        self._bar.advance(self._task)


class Counted(Generic[T]):
    """A loader whose batches are counted by a `Progress`."""

    def __init__(self, loader: Sized[T], progress: Progress) -> None:
        self._loader, self._progress = loader, progress

    def __iter__(self) -> Iterator[T]:
        for batch in self._loader:
            yield batch
            del batch  # frees its memory before the next one is fetched
            self._progress.advance()

    def __len__(self) -> int:
        return len(self._loader)


class _OnceCounted(ProgressColumn):
    """A column that is empty while the number of batches is unknown."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__(column.get_table_column())  # keeps whether the column may wrap
        self._column = column

    def render(self, task: Task) -> RenderableType:
        return "" if task.total is None else self._column(task)
