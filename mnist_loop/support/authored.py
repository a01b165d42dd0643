"""Tells the files of a loop's author from those of this package, the standard library and installed packages."""

from __future__ import annotations

import sysconfig
from pathlib import Path

OTHERS = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"))


def is_authored(file: str) -> bool:
    """Return whether the loop's author wrote ``file``, an absolute path."""
    return not file.startswith(OTHERS) and "site-packages" not in file
