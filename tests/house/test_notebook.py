"""The notebook of the lesson runs, and ``mnist-loop check`` finds the bug that it shows, in its cell."""

import json
import re
import sys

import pytest

from tests.programs import running

pytestmark = pytest.mark.slow

LIMIT_S = 300


def test_the_notebook_runs_and_its_bug_is_found(request, tmp_path):
    """The bug is named in its cell, at the line of its backward pass; the loop without it is clean."""
    notebook = request.config.rootpath / "notebooks" / "lesson.ipynb"
    command = [sys.executable, "-m", "mnist_loop", "check", "--format", "json", "-o", "found.json", str(notebook)]
    with running(command, cwd=tmp_path) as program:
        output, errors = program.communicate(timeout=LIMIT_S)
    assert program.returncode == 1, errors
    assert "wrong: ['zero-grad-missing']\nright: []\n" in output
    assert re.search(r"^reference: [\d,]+ images/s; resident: [\d.]+ times as fast$", output, re.MULTILINE)
    (found,) = json.loads((tmp_path / "found.json").read_text())["diagnoses"]
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    (number,) = (n for n, cell in enumerate(cells, start=1) if "train_without_clearing(" in "".join(cell["source"]))
    (line,) = (n for n, text in enumerate(cells[number - 1]["source"], start=1) if "backward()" in text)
    assert (found["id"], found["location"]["file"]) == ("zero-grad-missing", f"{notebook}, cell {number}")
    assert found["location"]["line"] == line
