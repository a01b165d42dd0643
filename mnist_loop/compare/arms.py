"""Arms: what a comparison compares, as a person names it on the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnist_loop.engines.options import engine
from mnist_loop.errors import UserError
from mnist_loop.support.options import positive_int, slowdown, thread_count

HERE = "."
PACKAGE = Path(__file__).parents[1]
TOX = Path(".tox")
PYTHONS = ("bin/python", "Scripts/python.exe", "python.exe")
DTYPES = ("float32", "float64", "bfloat16", "float16")
EXAMPLES = ".tox/py312-torch214, path/to/venv, path/to/python, path/to/a/checkout, or settings: threads=1"

# The settings, and the reader of each.
READERS: Mapping[str, Callable[[str], int | float | str]] = {
    "threads": thread_count,
    "batch_size": positive_int,
    "device": str,
    "dtype": str,
    "engine": engine,
    "slowdown": slowdown,
}


@dataclass(frozen=True)
class Arm:
    """An environment, a checkout of the loop, and settings.

    Attributes:
        label: how the person named it.
        python: the interpreter.
        package: the folder ``mnist_loop`` whose loop is run.
        settings: ``threads``, ``device``, ``dtype``, ``batch_size``, ``engine``, ``slowdown``: those that were set.
        variables: environment variables of its processes.
        control: whether it is the second copy of the first arm.
    """

    label: str
    python: str = sys.executable
    package: Path = PACKAGE
    settings: Mapping[str, int | float | str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    control: bool = False

    @property
    def host(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """The key of the environment: arms with equal keys may share a host process."""
        return self.python, str(self.package), tuple(sorted(self.variables.items()))

    def again(self) -> Arm:
        """Return the control: a second copy of this arm."""
        return replace(self, label=f"{self.label} again", control=True)


def parse_arms(specs: Sequence[str], settings: Sequence[str]) -> list[Arm]:
    """Turn the command line into arms; the first is what the others are compared with.

    With two arms or more, ``settings`` (those of ``--set``) hold for all of them. With one or none, each ``--set`` is
    an arm of its own in that environment; a single one is compared with the environment as it is.

    Raises:
        UserError: an arm that is not there, a setting that is not known, fewer than two arms, or two of one kind.
    """
    if len(specs) >= 2:
        arms = [parse_arm(spec, ",".join(settings)) for spec in specs]
    else:
        (spec,) = specs or [HERE]
        parts = [""] * (len(settings) == 1) + list(settings)
        arms = [parse_arm(spec, part) for part in parts]
        arms = [replace(arm, label=part or arm.label) for arm, part in zip(arms, parts, strict=True)]
    if len(arms) < 2:
        raise UserError(f"one arm found ({arms[0].label if arms else HERE}), expected two or more, such as {EXAMPLES}")
    return _told_apart(arms)


def parse_arm(spec: str, settings: str = "") -> Arm:
    """Turn ``ENVIRONMENT``, ``ENVIRONMENT:SETTINGS`` or ``SETTINGS`` into an arm; ``settings`` hold where it says none.

    Raises:
        UserError: no such environment, or no such setting.
    """
    place, _, own = spec.rpartition(":") if "=" in spec.rpartition(":")[2] else (spec, "", "")
    if "=" in place and not Path(place).exists():
        place, own = HERE, spec
    place = place or HERE
    chosen, variables = _settings(",".join(part for part in (settings, own) if part))
    python, package = _environment(place)
    return Arm(spec, python, package, chosen, variables)


def _environment(place: str) -> tuple[str, Path]:
    if place == HERE:
        return sys.executable, PACKAGE
    for path in (Path(place).expanduser(), TOX / place):
        for python in (path / name for name in PYTHONS):
            if python.is_file():
                return os.path.abspath(python), PACKAGE  # noqa: PTH100  # resolve() would leave the environment
        if path.is_file() and os.access(path, os.X_OK):
            return os.path.abspath(path), PACKAGE  # noqa: PTH100
        for package in (path / "mnist_loop", path):
            if (package / "loop.py").is_file() and package.name == "mnist_loop":
                return sys.executable, package.resolve()
    if _made_by_tox(place):
        return _environment(place)
    found = "no Python and no mnist_loop in it" if Path(place).exists() else "not there, nor in .tox"
    raise UserError(f"{place}: {found}; expected an environment or a checkout, such as {EXAMPLES}")


def _made_by_tox(place: str) -> bool:
    """Make the tox environment ``place``, where it is tox that runs this: `tox -e compare -- torch214 torch215`."""
    if "TOX_ENV_NAME" not in os.environ or not re.fullmatch(r"[\w.-]+", place) or (TOX / place).exists():
        return False
    sys.stderr.write(f"tox makes the environment {place}, this once\n")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("TOX_", "VIRTUAL_ENV"))}
    command = [sys.executable, "-m", "tox", "run", "--notest", "-e", place]
    made = subprocess.run(command, env=variables, check=False)  # noqa: S603  # tox, with a name that was checked
    return made.returncode == 0 and (TOX / place).exists()


def _settings(text: str) -> tuple[dict[str, int | float | str], dict[str, str]]:
    chosen: dict[str, int | float | str] = {}
    variables: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not value:
            raise UserError(f"setting {part!r}: expected NAME=VALUE, such as threads=1")
        if re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            variables[name] = value
        else:
            chosen[name] = _value(name, value)
    return chosen, variables


def _value(name: str, text: str) -> int | float | str:
    if name not in READERS:
        known = ", ".join(READERS)
        raise UserError(f"setting {name!r}: not known, expected {known}, or an environment variable in capitals")
    try:
        value: int | float | str = READERS[name](text)
    except Exception as error:
        raise UserError(f"setting {name}={text}: {error}") from error
    if name == "dtype" and value not in DTYPES:
        raise UserError(f"setting dtype={text}: not known, expected {', '.join(DTYPES)}")
    return value


def _told_apart(arms: list[Arm]) -> list[Arm]:
    """Number equal labels, so that no two arms have the same."""
    labels = [arm.label for arm in arms]
    return [
        replace(arm, label=f"{arm.label} ({labels[: index + 1].count(arm.label)})")
        if labels.count(arm.label) > 1
        else arm
        for index, arm in enumerate(arms)
    ]
