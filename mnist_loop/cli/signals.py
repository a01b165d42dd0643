"""How Ctrl-C, SIGTERM and SIGHUP are handled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Windows has no SIGHUP.
TERMINATIONS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt in the block, as Ctrl-C does, so that it ends in good order.

    So does SIGHUP, which comes when the terminal is closed, but where it is ignored, as nohup has it.
    """
    with _handled_by(signal.default_int_handler, *TERMINATIONS):
        yield


@contextmanager
def held_back(tell: Callable[[], object]) -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP until the end of the block; call ``tell`` when they arrive.

    This is for importing torch: an exception below its C++ code is lost, or leaves a module half loaded.
    """
    came: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        came.append(number)
        tell()

    with _handled_by(hold, signal.SIGINT, *TERMINATIONS):
        yield
    if came:
        raise KeyboardInterrupt


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], object], *numbers: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set handlers
        yield
        return
    heard = [
        number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN or number not in TERMINATIONS
    ]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
