"""What a loop is handed beside the roles: literals of ``--give``, and stand-ins for writers, loggers and bars."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Mapping
from typing import Any

from mnist_loop.errors import UserError


class TakesEveryCall:
    """Stands for a writer, a logger or a progress bar: takes each call, and holds no data."""

    def __call__(self, *_: object, **__: object) -> TakesEveryCall:
        """Do nothing."""
        return self

    def __getattr__(self, name: str) -> TakesEveryCall:
        """Return the same for each method."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __enter__(self) -> TakesEveryCall:
        """Begin a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""

    def __deepcopy__(self, memo: object) -> TakesEveryCall:
        """Return itself."""
        return self


def read_given(texts: Iterable[str]) -> dict[str, Any]:
    """Read what a command line gives, ``gpu_id=0`` or ``args.warm=False``: value by name.

    What is no literal of Python is a text.

    Raises:
        UserError: one is no ``NAME=VALUE``, or a name is given twice.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not all(part.isidentifier() for part in name.split(".")) or name.count(".") > 1:
            raise UserError(f"{text!r} found, expected NAME=VALUE, the name of a parameter or of a setting: gpu_id=0")
        if name in values:
            raise UserError(f"{name} found twice, expected each name once")
        try:
            values[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            values[name] = value
    return values


def settings_given(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given of the settings, by the name in them: ``warm`` of ``args.warm``."""
    return {name.partition(".")[2]: copy.deepcopy(value) for name, value in given.items() if "." in name}


def options_for(names: Iterable[str]) -> str:
    """Return the options that hand over what is unknown, with the values left open."""
    return " ".join(f"--give {name}=VALUE" for name in names)
