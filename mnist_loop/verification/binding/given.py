"""What a loop is handed beside the roles: literals of ``--give``, and stand-ins for writers, loggers and bars."""

from __future__ import annotations

import ast
import copy
import shlex
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


def command(spec: str, given: Mapping[str, Any], declared: Mapping[str, Any], *more: str) -> str:
    """Return the command that verifies a loop with what is given and declared, and with more options.

    What is declared as a function, on the loop itself, needs no option.
    """
    words: list[str] = []
    for name, value in given.items():
        plain = f"{name}={value}"
        words += ["--give", plain if read_given([plain])[name] == value else f"{name}={value!r}"]
    for name, value in declared.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if not callable(value):
            words += ["--declare", name if value is True else f"{name}={text}"]
    return " ".join(["mnist-loop verify", *map(shlex.quote, [spec, *words]), *more])


def options_for(names: Iterable[str]) -> str:
    """Return the options that hand over what is unknown, with the values left open."""
    return " ".join(f"--give {name}=VALUE" for name in names)
