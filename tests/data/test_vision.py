"""A torchvision that does not load is one sentence with what to install."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_loop
from mnist_loop.data import vision
from mnist_loop.errors import DataError

CIRCULAR = (
    "partially initialized module 'torchvision' has no attribute 'extension' (most likely due to a circular import)"
)
# What stands in torchvision's place -> what is said of it.
BROKEN = {
    "another build": 'RuntimeError("operator torchvision::nms does not exist")',
    "not installed": "ModuleNotFoundError(\"No module named 'torchvision'\", name='torchvision')",
    "circular": f"AttributeError({CIRCULAR!r})",  # of some releases: no ImportError
}
BUILDS = (
    "torchvision does not load: torch {torch} beside torchvision {torchvision} come from different builds "
    "(such as one for CUDA and one for the CPU alone). Install both from one index: "
    "pip install --force-reinstall torch torchvision, or, for the CPU alone, "
    "the same with --index-url https://download.pytorch.org/whl/cpu"
)
PAIR = (
    "torchvision does not load: found torch {torch} beside torchvision {torchvision}, and it says: {said}. "
    "Install the pair that belongs together: pip install --upgrade torch torchvision"
)
SAID = {
    "another build": BUILDS,
    "not installed": PAIR.replace("{said}", "No module named 'torchvision'"),
    "circular": BUILDS,
}
VERSIONS = {package: vision._version(package) for package in ("torch", "torchvision")}

TIMEOUT_S = 300  # torch is loaded, which takes more than a minute from a cold disk


def break_torchvision(folder: Path, error: str) -> None:
    """Put a torchvision into the folder that cannot be imported."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(f"raise {error}\n")


def test_train_is_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    """``mnist-loop train`` ends with the sentence on stderr, nothing on stdout, and exit code 2."""
    break_torchvision(tmp_path, BROKEN["another build"])
    ours = Path(mnist_loop.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "mnist_loop", "train"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, ours)))},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    said = SAID["another build"].format(**VERSIONS)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"mnist-loop: {said}\n")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (AttributeError(CIRCULAR), BUILDS),  # what torchvision 0.19 says of another build
        (ImportError("DLL load failed:\n\tnot found\n"), PAIR.replace("{said}", "DLL load failed: not found")),
    ],
    ids=["circular", "several lines"],
)
def test_each_error_is_explained(error: Exception, sentence: str) -> None:
    """Errors of several lines become one."""
    assert vision.explain(error) == sentence.format(**VERSIONS)


@pytest.mark.parametrize("what", SAID)
def test_import_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """In Python it is a `DataError` with the same sentence, whatever class the error of torchvision has."""
    break_torchvision(tmp_path, BROKEN[what])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(DataError) as raised:
        runpy.run_path(vision.__file__)
    assert str(raised.value) == SAID[what].format(**VERSIONS)
