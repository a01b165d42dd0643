"""The scripts of the corpus, as ``manifest.toml`` lists them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MANIFEST = Path(__file__).with_name("manifest.toml")


@dataclass(frozen=True)
class Reading:
    """What a person who read the script says of a finding.

    Attributes:
        line: the line that shows it, as ``file:number``.
        right: it is so.
        why: in a sentence.
    """

    line: str
    right: bool
    why: str


@dataclass(frozen=True)
class Script:
    """A training script of a public repository.

    Attributes:
        repository: its owner and name at GitHub.
        commit: of the repository.
        path: of the script in the repository.
        arguments: what it is given.
        folder: in which it is run, in the repository; its own, if not said.
        environment: variables of the environment.
        data: the stand-in data that it needs: where, from the folder, and the name of the maker.
        packages: that it needs besides torch, torchvision and NumPy.
        readings: of its findings, by the id of the bug.
    """

    repository: str
    commit: str
    path: str
    arguments: tuple[str, ...] = ()
    folder: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    readings: dict[str, Reading] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called on the command line and in the page."""
        return f"{self.repository}/{self.path}"

    def checkout(self, checkouts: Path) -> Path:
        """Return the folder of the repository."""
        return checkouts / self.repository.replace("/", "+")

    def run_in(self, checkouts: Path) -> Path:
        """Return the folder in which it is run."""
        root = self.checkout(checkouts)
        return (root / self.path).parent if self.folder is None else root / self.folder

    def file(self, checkouts: Path) -> Path:
        """Return the script's file."""
        return self.checkout(checkouts) / self.path


def scripts(manifest: Path = MANIFEST) -> list[Script]:
    """Return all scripts.

    Raises:
        ValueError: an entry has a field that is unknown, or lacks one.
    """
    found = []
    for repository in tomllib.loads(manifest.read_text(encoding="utf-8"))["repository"]:
        name, commit = repository["name"], repository["commit"]
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise ValueError(f"{name} at {commit}: expected owner/name and a commit of 40 digits")
        found += [_script(name, commit, entry) for entry in repository["script"]]
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        raise ValueError(f"listed twice: {', '.join(sorted({one for one in names if names.count(one) > 1}))}")
    return found


def _script(repository: str, commit: str, entry: dict[str, Any]) -> Script:
    given = dict(entry)
    for key in ("arguments", "packages"):
        given[key] = tuple(given.get(key, ()))
    given["readings"] = {bug: Reading(**reading) for bug, reading in given.get("readings", {}).items()}
    try:
        return Script(repository, commit, **given)
    except TypeError as error:
        raise ValueError(f"{repository}/{entry.get('path')}: {error}") from None
