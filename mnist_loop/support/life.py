"""Processes that end when their parent does, whatever ends it: a pipe tells them, whose other end the parent holds."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading


def die_with_parent(life: int) -> None:
    """End this process when the other end of a pipe closes, which only its parent holds open.

    On Linux the kernel kills the whole process group, of which this process is to be the leader, also while it is busy
    in C. PR_SET_PDEATHSIG would not do: it is sent when the thread ends that forked, not the process. Elsewhere a
    thread waits for the end of the pipe, and ends this process alone.

    Args:
        life: the file descriptor of the pipe's end to read from; nothing ever comes.
    """
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([life], [], [], 0)[0]:  # the parent ended before that was in place
            os.killpg(0, signal.SIGKILL)
    else:
        threading.Thread(target=_wait, args=(life,), daemon=True).start()


def _wait(life: int) -> None:
    os.read(life, 1)
    os._exit(1)
