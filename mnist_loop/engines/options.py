"""Types of command-line options for engines."""

from __future__ import annotations

import argparse

from mnist_loop.engines import IN_ONE_PROCESS

ALL = "all"


def engine(text: str) -> str:
    """Read the name of an engine that runs in one process."""
    if text not in IN_ONE_PROCESS:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected {', '.join(IN_ONE_PROCESS)}")
    return text


def engines(text: str) -> list[str]:
    """Read names of engines separated by commas, each once; ``all`` is every one that runs in one process."""
    if text == ALL:
        return list(IN_ONE_PROCESS)
    return list(dict.fromkeys(engine(part) for part in text.split(",")))
