"""``[tool.mnist_loop]`` in the nearest ``pyproject.toml``: what holds for all loops and scripts of a project."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mnist_loop.bugs import get
from mnist_loop.errors import UserError
from mnist_loop.verdict.expected import Expected, checked_entry
from mnist_loop.verdict.formats import FORMATS
from mnist_loop.verdict.location import shown_path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "pyproject.toml"
KEYS = ("ignore", "expected-failures", "declare", "format")


@dataclass(frozen=True)
class Settings:
    """The settings of a project.

    Attributes:
        file: as it is shown; "" without a file.
        ignore: ids of the bugs that are silenced everywhere, each with the place of the setting.
        expected: the bugs that are expected, by id.
        declare: the intentions, not checked.
        format: how a verdict is written.
    """

    file: str = ""
    ignore: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[str, Expected] = field(default_factory=dict)
    declare: Mapping[str, Any] = field(default_factory=dict)
    format: str = "text"

    def key(self, name: str) -> str:
        """Return how a message names a key: "pyproject.toml: tool.mnist_loop.ignore"."""
        return f"{self.file}: tool.mnist_loop.{name}"


def read_settings(folder: Path | None = None) -> Settings:
    """Read the settings for a working folder: those of the nearest ``pyproject.toml``, from the folder upwards.

    Raises:
        UserError: the file cannot be read, or a key, an id or a value is wrong.
    """
    folder = (folder or Path.cwd()).absolute()
    file = next((one / NAME for one in (folder, *folder.parents) if (one / NAME).is_file()), None)
    if file is None:
        return Settings()
    empty = Settings(shown_path(str(file)))
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{empty.file}: cannot be read ({reason}), expected a file in TOML: mend it") from None
    tools = document.get("tool", {})
    table = tools.get("mnist_loop", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise UserError(f"{empty.file}: tool.mnist_loop={table!r} found, expected a table: write [tool.mnist_loop]")
    for key in table:
        if key not in KEYS:
            near = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else "remove it"
            raise UserError(f"{empty.key(key)} found, expected one of {', '.join(KEYS)}: {hint}")
    return Settings(
        file=empty.file,
        ignore=_ignored(table.get("ignore", []), empty),
        expected=_expected(table.get("expected-failures", {}), empty),
        declare=_table(table.get("declare", {}), empty.key("declare"), "{clip = 1.0}"),
        format=_format(table.get("format", "text"), empty.key("format")),
    )


def _ignored(value: Any, settings: Settings) -> dict[str, str]:
    key = settings.key("ignore")
    if not isinstance(value, list) or not all(isinstance(id_, str) for id_ in value):
        raise UserError(f'{key}={value!r} found, expected a list of ids: write ["zero-grad-missing"]')
    for id_ in value:
        try:
            get(id_)
        except UserError as error:
            raise UserError(f"{key}: {error}") from None
    return dict.fromkeys(value, settings.file)


def _expected(value: Any, settings: Settings) -> dict[str, Expected]:
    key = settings.key("expected-failures")
    found = {}
    for id_, reason in _table(value, key, '{zero-grad-missing = "why it stays"}').items():
        if not isinstance(reason, str) or not reason.strip():
            raise UserError(f'{key}: {id_}={reason!r} found, expected the reason as text: {id_} = "why it stays"')
        found[id_] = checked_entry(Expected(id_, reason.strip(), key))
    return found


def _table(value: Any, key: str, example: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{key}={value!r} found, expected a table: write {example}")
    return value


def _format(value: Any, key: str) -> str:
    if not isinstance(value, str) or value not in FORMATS:
        raise UserError(f"{key}={value!r} found, expected one of {', '.join(FORMATS)}: write one of them")
    return value
