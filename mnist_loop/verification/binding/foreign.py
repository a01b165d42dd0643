"""Code of others may replace Python's built-in functions: they are its own while it runs, and Python's elsewhere."""

from __future__ import annotations

import builtins
from typing import Any


class _ForeignCode:
    """A block in which code of others runs: what it replaces in ``builtins`` is put back after it, until the next one.

    The methods call no built-in function: they may be replaced.

    Attributes:
        replaced: the built-in functions that code of others has replaced, by name.
    """

    replaced: dict[str, Any]

    def __init__(self) -> None:
        self.replaced = {}
        self._present = vars(builtins)
        self._own: dict[str, Any] = {}
        self._depth = 0

    def __enter__(self) -> None:
        if not self._depth:
            self._own = self._present.copy()
            self._present.update(self.replaced)
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.replaced = {}
            for name, value in self._own.items():
                found = self._present.get(name)
                if found is not value and name != "_":  # which a prompt sets
                    self.replaced[name] = found
            self._present.update(self._own)


foreign_code = _ForeignCode()
