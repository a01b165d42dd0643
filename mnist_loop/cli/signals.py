"""How Ctrl-C and SIGTERM are handled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt in the block, as Ctrl-C does, so that it ends in good order."""
    with _handled_by(signal.default_int_handler, signal.SIGTERM):
        yield


@contextmanager
def held_back(tell: Callable[[], object]) -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the end of the block; call ``tell`` when they arrive.

    This is for importing torch: an exception below its C++ code is lost, or leaves a module half loaded.
    """
    came: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        came.append(number)
        tell()

    with _handled_by(hold, signal.SIGINT, signal.SIGTERM):
        yield
    if came:
        raise KeyboardInterrupt


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], object], *numbers: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set handlers
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
