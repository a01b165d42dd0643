"""Questions to the system and to torch, answered with None where there is no answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

Facts = dict[str, Any]
T = TypeVar("T")

ROOT = Path("/")  # the folder of /proc and /sys; tests set another one


def read_file(file: str) -> str | None:
    """Return the text of a file of /proc or /sys, stripped; None where it is not there or not readable."""
    try:
        return (ROOT / file.lstrip("/")).read_text(errors="replace").strip()
    except OSError:
        return None


def told(read: Callable[[], T]) -> T | None:
    """Return the answer of ``read``, without warnings; None where torch or the system has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old names and drivers
        try:
            return read()
        except (AttributeError, OSError, RuntimeError, psutil.Error):
            # This version, system or container lacks it; or torch, from 2.9 on, refuses to read by an older name a
            # precision that was set by a newer one.
            return None
