"""Landlock, with which Linux lets a process give up writing outside of given folders, for itself and what it starts."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, the same on all architectures
VERSION = 1  # flag: tell which version there is
PATH_BENEATH = 1  # type of a rule
NO_NEW_PRIVILEGES = 38  # option of prctl, which a process without rights must set first
OLDEST = 2  # version 1 lets nothing be renamed from a folder to another
# Rights: to write a file; to remove folders and files, make what there is of kinds, move it to another folder.
CHANGES = 1 << 1 | sum(1 << bit for bit in range(4, 14))
TRUNCATE = 1 << 14  # since version 3

_active = False


def restrict(folders: Iterable[str]) -> bool:
    """Have the kernel refuse each write of this thread, and of what it starts, outside of ``folders``, for good.

    Returns:
        Whether it does: it needs Linux 5.19 with Landlock enabled.
    """
    global _active
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)
    if version < OLDEST:
        return False
    rights = CHANGES | (TRUNCATE if version >= 3 else 0)
    handled = struct.pack("Q", rights)
    rules = libc.syscall(CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        return False
    try:
        for folder in folders:
            with suppress(FileNotFoundError):
                _allow(libc, rules, rights, folder)
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        _active = bool(libc.syscall(RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)
    return _active


def _allow(libc: ctypes.CDLL, rules: int, rights: int, folder: str) -> None:
    file = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        libc.syscall(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", rights, file), 0)
    finally:
        os.close(file)


def is_refusal(error: BaseException) -> bool:
    """Return whether an error may be the kernel's word to C++ or to another program; Python's own were told before."""
    if not _active or isinstance(error, OSError):
        return False
    texts = [str(error)]
    for name in ("stdout", "stderr"):  # of subprocess.CalledProcessError
        output = getattr(error, name, None)
        texts.append(output.decode(errors="replace") if isinstance(output, bytes) else str(output))
    return any(words in text for text in texts for words in ("ermission denied", "readonly database"))
