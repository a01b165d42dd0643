"""Ctrl-C and SIGTERM: when they are answered, and how."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end what runs within as Ctrl-C does: with its summary, and with no file half written."""
    with _handled_by(signal.default_int_handler, signal.SIGTERM):
        yield


@contextmanager
def held_back(tell: Callable[[], object]) -> Iterator[None]:
    """Answer Ctrl-C and SIGTERM when what runs within is over; call ``tell`` as they come.

    For importing torch: where the exception is raised below its C++ part, it is lost, or a module stays half loaded.
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
    if threading.current_thread() is not threading.main_thread():  # no other may set a handler, nor is it interrupted
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
