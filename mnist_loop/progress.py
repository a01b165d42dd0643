"""Lines of text, under which a terminal shows a progress bar with the remaining time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

T = TypeVar("T", covariant=True)


class Sized(Protocol[T]):
    """What can be iterated over again and again, and knows its length: a DataLoader."""

    def __iter__(self) -> Iterator[T]: ...

    def __len__(self) -> int: ...


class Progress:
    """Prints lines; on a terminal, shows beneath them what is going on and how long it will take.

    In a pipe or a file there are the lines alone.
    """

    def __init__(self, *, to_stderr: bool = False) -> None:
        stream = sys.stderr if to_stderr else sys.stdout
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("batches, remaining"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not stream.isatty(),
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
        self._console.print(text)
        self._console.file.flush()

    def status(self, text: str, total: int | None = None) -> None:
        """Say what is going on from now on, and how many batches it will take, if that is known."""
        self._bar.reset(self._task, description=text, total=total, visible=True)

    def describe(self, text: str) -> None:
        """Say what is going on without starting the count anew."""
        self._bar.update(self._task, description=text)

    def counted(self, loader: Sized[T]) -> Counted[T]:
        """Return ``loader`` such that each of its batches counts."""
        return Counted(loader, self)

    def advance(self) -> None:
        """Count one batch."""
        self._bar.advance(self._task)


class Counted(Generic[T]):
    """A loader whose batches a `Progress` counts."""

    def __init__(self, loader: Sized[T], progress: Progress) -> None:
        self._loader, self._progress = loader, progress

    def __iter__(self) -> Iterator[T]:
        for batch in self._loader:
            yield batch
            del batch  # or it would live on while the next one is fetched
            self._progress.advance()

    def __len__(self) -> int:
        return len(self._loader)
