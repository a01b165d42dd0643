"""Trainings by real frameworks: none is told of a bug, none is changed by a bit, and what is watched sees into them.

Each script in ``frameworks/`` runs in processes of its own, by itself and under check: 10 to 30 s each.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "frameworks"
SHARED = "frameworks_data"
NAMES = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != SHARED)
LAST, ENDS_IN_SOFTMAX = "nn.Linear(10, 3))", "nn.Linear(10, 3), nn.Softmax(dim=1))"
KERAS_LAST, KERAS_SOFTMAX = "keras.layers.Dense(3),", "keras.layers.Dense(3), keras.layers.Softmax(),"

pytestmark = pytest.mark.slow


@cache
def ran(name, folder, *how):
    """Run a framework's script in a process of its own."""
    lacking = [package for package in _packages(name) if importlib.util.find_spec(package) is None]
    if lacking:
        pytest.skip(f"{' and '.join(lacking)} cannot be imported: pip install -e '.[frameworks]'")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, *how, str(folder / f"{name}.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


def _packages(name):
    """Return what a script imports, at its top level."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    found = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    found += [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    return sorted({module.split(".")[0] for module in found} - {SHARED})


@pytest.mark.parametrize("name", NAMES)
def test_a_framework_is_told_of_nothing_and_unchanged(name):
    """The same losses and parameters, bit by bit, and no finding."""
    alone, watched = ran(name, FOLDER), ran(name, FOLDER, "-m", "mnist_loop", "check")
    assert alone.returncode == 0, alone.stderr
    assert len(alone.stdout.splitlines()) > 2
    assert watched.stdout == alone.stdout
    assert watched.returncode == 0, watched.stderr
    assert "no bug, " in watched.stderr
    assert " info" not in watched.stderr.split("no bug, ")[1], watched.stderr
    assert "12 training forwards" in watched.stderr or "10 training forwards" in watched.stderr, watched.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_bug_within_a_framework_is_named(name, tmp_path):
    """A model that ends in softmax, below the loss of logits."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    changed = 0
    for file, right, wrong in ((SHARED, LAST, ENDS_IN_SOFTMAX), ("keras_model", KERAS_LAST, KERAS_SOFTMAX)):
        text = (tmp_path / f"{file}.py").read_text(encoding="utf-8")
        changed += text.count(right)
        (tmp_path / f"{file}.py").write_text(text.replace(right, wrong), encoding="utf-8")
    assert changed == 2
    verdict = tmp_path / "verdict.json"
    watched = ran(name, tmp_path, "-m", "mnist_loop", "check", "--format", "json", "-o", str(verdict))
    told = json.loads(verdict.read_text(encoding="utf-8"))
    assert [one["id"] for one in told["diagnoses"] if one["severity"] == "bug"] == ["softmax-before-cross-entropy"]
    assert watched.returncode == 1
