"""The wheel, unpacked into an empty folder without the checkout on the path: its modules and its commands."""

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import small_mnist

pytestmark = pytest.mark.slow

LIMIT_S = 300
OPTIONAL = ("jax", "keras", "lightning")  # what the entries of benchmarks/peers on one framework share imports it
# The checkout is on the path of an environment in which it is installed editable.
WITHOUT_CHECKOUT = """
import sys
sys.path[:] = [folder for folder in sys.path if folder != sys.argv[1]]
del sys.argv[1]
"""
IMPORT_ALL = """
import importlib, json, pkgutil
import mnist_loop
found = {"file": mnist_loop.__file__, "imported": [], "failed": {}}
for module in pkgutil.walk_packages(mnist_loop.__path__, "mnist_loop.", lambda name: None):
    try:
        importlib.import_module(module.name)
        found["imported"].append(module.name)
    except ImportError as error:
        found["failed"][module.name] = [error.name, str(error)]
json.dump(found, sys.stdout)
"""
COMMAND = """
from mnist_loop.cli import main
sys.exit(main(sys.argv[1:]))
"""
MODULE = """
import runpy
name = sys.argv[1]
del sys.argv[1]
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def wheel(request, tmp_path_factory):
    """Build the wheel of this checkout and unpack it; return the folder."""
    built, unpacked = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("unpacked")
    python = (sys.executable, "-m")
    if importlib.util.find_spec("hatchling"):
        command = (*python, "hatchling", "build", "-t", "wheel", "-d", str(built))
    elif importlib.util.find_spec("pip"):
        command = (*python, "pip", "wheel", "--no-deps", "-w", str(built), ".")
    else:
        pytest.skip("neither hatchling nor pip is installed here, which build a wheel: pip install -e '.[dev]'")
    done = subprocess.run(command, cwd=request.config.rootpath, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(unpacked)
    return unpacked


@pytest.fixture
def run(wheel, request, tmp_path):
    """Run a script with the unpacked wheel first on the path, in an empty folder."""

    def run(script, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_CHECKOUT + script, str(request.config.rootpath), *arguments],
            env={**os.environ, "PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            timeout=LIMIT_S,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_every_module_is_imported(wheel, run, request):
    """All modules of the checkout are there, and import; those of a framework that is not installed are skipped."""
    found = json.loads(run(IMPORT_ALL))
    assert Path(found["file"]).is_relative_to(wheel)
    for name, (missing, message) in found["failed"].items():
        assert missing in OPTIONAL, f"{name}: {message}"
        print(f"{name} skipped: {missing} is not installed")  # noqa: T201  # with -rP pytest shows it
    root, there = request.config.rootpath, {*found["imported"], *found["failed"]}
    for package, prefix in (("mnist_loop", ""), ("benchmarks", "mnist_loop.")):
        for file in (root / package).rglob("*.py"):
            name = prefix + ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            assert name == "mnist_loop" or name in there, f"{name} is not in the wheel"


def test_the_commands_work(run, tmp_path):
    """``mnist-loop bench`` at one batch size, and the epochs of other frameworks, whose processes find it too."""
    small_mnist.write(tmp_path / "data" / "MNIST" / "raw", small_mnist.contents())
    options = "--device cpu --threads 1 --data data --batch-sizes 20"
    out = run(COMMAND, "bench", *options.split())
    assert "stored in .benchmarks" in out
    assert [*(tmp_path / ".benchmarks").glob("*.json")]
    options = "--entries reference,numpy --rounds 1 --threads 1 --images 64"
    assert "| numpy |" in run(MODULE, "mnist_loop.benchmarks.peers", *options.split())
