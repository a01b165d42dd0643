"""Results in the formats of tools that follow benchmarks over time: one module for each tool. No file is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mnist_loop.report.exports import bencher, github
from mnist_loop.report.stored import StoredResults

EXPORTS: Mapping[str, Callable[[StoredResults], str]] = {"github": github.github_json, "bencher": bencher.bencher_json}


def is_export(document: Any) -> bool:
    """Tell whether a decoded document is one that an export made."""
    return github.is_github_json(document) or bencher.is_bencher_json(document)
