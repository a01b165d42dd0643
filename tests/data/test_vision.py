"""A torchvision that does not load is one sentence with what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mnist_loop
from mnist_loop.data import vision

# What stands in torchvision's place -> what is said of it.
BROKEN = {
    "another build": 'RuntimeError("operator torchvision::nms does not exist")',
    "not installed": "ModuleNotFoundError(\"No module named 'torchvision'\", name='torchvision')",
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
SAID = {"another build": BUILDS, "not installed": PAIR.replace("{said}", "No module named 'torchvision'")}
VERSIONS = {package: vision._version(package) for package in ("torch", "torchvision")}

IMPORT = (
    "from mnist_loop.errors import DataError\n"
    "try:\n"
    "    import mnist_loop.data.vision\n"
    "except DataError as error:\n"
    "    print(error)\n"
)
TIMEOUT_S = 300  # two processes load torch at once, which takes more than a minute from a cold disk


def start(folder: Path, what: str, *command: str) -> subprocess.Popen[str]:
    """Start Python where importing torchvision fails."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(f"raise {BROKEN[what]}\n")
    ours = Path(mnist_loop.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (folder, ours)))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """``mnist-loop train`` for each way in which torchvision is broken, all at once: they load torch."""
    started = {what: start(tmp_path_factory.mktemp("train"), what, "-m", "mnist_loop", "train") for what in BROKEN}
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("what", BROKEN)
def test_train_is_one_sentence_and_no_traceback(trainings: dict[str, subprocess.Popen[str]], what: str) -> None:
    """``mnist-loop train`` ends with the sentence on stderr, nothing on stdout, and exit code 2."""
    process = trainings[what]
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (2, "", f"mnist-loop: {SAID[what].format(**VERSIONS)}\n")


@pytest.mark.parametrize("what", BROKEN)
def test_import_is_one_sentence(tmp_path: Path, what: str) -> None:
    """In Python it is a `DataError` with the same sentence."""
    with start(tmp_path, what, "-c", IMPORT) as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (0, f"{SAID[what].format(**VERSIONS)}\n", "")


CIRCULAR = (
    "partially initialized module 'torchvision' has no attribute 'extension' (most likely due to a circular import)"
)


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


def test_an_attribute_error_is_explained_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some releases fail with an AttributeError, which is no ImportError."""
    monkeypatch.setitem(BROKEN, "circular", f"AttributeError({CIRCULAR!r})")
    with start(tmp_path, "circular", "-c", IMPORT) as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (0, f"{BUILDS.format(**VERSIONS)}\n", "")


def test_a_package_that_is_not_installed_has_no_version() -> None:
    """The sentence says so in the version's place."""
    assert vision._version("no-such-package-of-ours") == "(not installed)"
