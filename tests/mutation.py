"""Mutation testing: break ``loop.py`` and ``data/mnist.py`` in each way that cosmic-ray knows; a test must notice.

``python -m tests.mutation [FILE ...]`` works on a copy of the project, several files at a time, and takes about half an
hour. It exits 1 if a mutant survives that is not listed below with the reason why nothing can notice it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOT_COPIED = shutil.ignore_patterns(".git", ".tox", ".venv", ".benchmarks", "*.egg-info", "__pycache__")
PROPERTIES = [f"tests/properties/test_{subject}.py" for subject in (
    "shapes", "metrics", "train_eval", "gradient_zeroing", "resources", "reproducibility", "loss_decrease",
)]  # fmt: skip
TARGETS = {
    "mnist_loop/loop.py": [*PROPERTIES, "tests/properties/test_loop_devices.py"],
    "mnist_loop/data/mnist.py": [
        "tests/properties/test_data_order.py",
        "tests/data/test_data.py",
        "tests/data/test_download.py",
        "tests/properties/test_cuda.py",
    ],
}

# Operators that are left out, and why.
LEFT_OUT = {
    "core/ReplaceBinaryOperator_BitOr_.*": "each `|` in these files stands in an annotation, which nothing evaluates",
    "core/ReplaceBinaryOperator_Mul_.*": "the `*` in a signature is no product: what replaces it is no Python",
    "core/ReplaceBinaryOperator_Div_(?!Mul).*": "a path divides by a name alone: one other operator stands for all",
}

# Survivors that behave as the original does, by the line that the mutant has in its place.
EQUIVALENT = {
    "if count <= 0:": "a count of images is never below zero",
    'found = "" if places[ -1][0].is_dir() else "no such folder for the data"': "there is one place by then",
    **{
        f'note += f"; {{sum(file.stat().st_size for file in files) / {other}:.0f}} MB were written there"': (
            "the files are of no size that rounds to another number of megabytes"
        )
        for other in (999999.0, 1000001.0)
    },
}


def survivors(module: str) -> list[str]:
    """Run all mutants of ``module`` in a copy of the project; return the diffs of those that no test noticed."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        shutil.copytree(ROOT, project, ignore=_not_copied)
        tests = " ".join(test for test in TARGETS[module] if (project / test).exists())
        (project / "mutation.toml").write_text(
            f"""
            [cosmic-ray]
            module-path = "{module}"
            timeout = 180.0
            excluded-modules = []
            test-command = "{sys.executable} -m pytest -x -q -p no:cacheprovider {tests}"
            [cosmic-ray.distributor]
            name = "local"
            [cosmic-ray.filters.operators-filter]
            exclude-operators = {json.dumps(list(LEFT_OUT))}
            """
        )
        run(project, "cosmic-ray", "init", "mutation.toml", "mutation.sqlite")
        run(project, "cr-filter-operators", "mutation.sqlite", "mutation.toml")
        run(project, "cosmic-ray", "baseline", "mutation.toml")
        run(project, "cosmic-ray", "exec", "mutation.toml", "mutation.sqlite")
        jobs = [json.loads(line) for line in run(project, "cosmic-ray", "dump", "mutation.sqlite").splitlines()]
    results: list[dict[str, Any]] = [result for _, result in jobs if result is not None]
    counts = Counter(result["test_outcome"] or result["worker_outcome"] for result in results)
    say(f"{module}: {dict(counts)}")
    return [result["diff"] for result in results if result["test_outcome"] == "survived"]


def _not_copied(folder: str, names: list[str]) -> set[str]:
    """Return what a copy of the project lacks in a folder: at its top the data too, but not the room of that name."""
    return NOT_COPIED(folder, names) | ({"data"} if Path(folder) == ROOT else set())


def run(folder: Path, command: str, *arguments: str) -> str:
    """Run one of cosmic-ray's programs in ``folder``; return what it printed."""
    program = Path(sys.executable).with_name(command)
    environment = {**os.environ, "PYTHONPATH": str(folder)}  # the copy comes before the installed package
    done = subprocess.run(  # our own arguments
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command} {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def changed_line(diff: str) -> str:
    """Return the line that a mutant has in place of the original's."""
    added = [line[1:].strip() for line in diff.splitlines() if line.startswith("+") and not line.startswith("+++")]
    return added[0] if added else "(a line removed)"


def say(text: str) -> None:
    """Print one line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(modules: list[str]) -> int:
    """Test the mutants of ``modules``, by default of all targets; return 1 if one survives without a reason."""
    modules = modules or list(TARGETS)
    with ThreadPoolExecutor() as pool:
        diffs = [diff for found in pool.map(survivors, modules) for diff in found]
    unexplained = 0
    for diff in diffs:
        reason = EQUIVALENT.get(changed_line(diff))
        unexplained += reason is None
        say(f"\nSURVIVED{f', equivalent: {reason}' if reason else ''}\n{diff}")
    say(f"\n{len(diffs)} mutants survived, {unexplained} of them without a reason")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
