"""Which lines are those of a loop's author: not this package's, not the standard library's, not an installed one's."""

from __future__ import annotations

import sysconfig
from pathlib import Path

OTHERS = (str(Path(__file__).parents[2]), sysconfig.get_path("stdlib"))


def is_authored(file: str) -> bool:
    """Return whether the loop's author wrote ``file``, an absolute path."""
    return not file.startswith(OTHERS) and "site-packages" not in file
