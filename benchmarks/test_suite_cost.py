"""What the suite itself costs: its imports beside torch's, its pytest plugin, its own tests.

The numbers are in each benchmark's ``extra_info``: seconds of newly started processes, ``cpu_s`` in CPU time.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime, timezone
from importlib.metadata import entry_points
from pathlib import Path
from statistics import median
from xml.etree import ElementTree

import pytest

import mnist_loop
from mnist_loop.bench import machine

from .quartiles import quartiles

# Not in the default sweep: run it with -m slow.
pytestmark = pytest.mark.slow

PACKAGES = Path(mnist_loop.__file__).parents[1]  # where a new process finds the same mnist_loop
CHECKOUT = Path(__file__).parents[1]

ROUNDS = 10  # quartiles need about ten values
PAIRS = 20  # of starts of pytest with and without the plugin, in the order A B B A
SMALL = "tests/properties/test_metrics.py"  # stands for all tests where nothing is timed
SLOWEST = 10  # files that are named
LIMIT_S = 7200  # several times what all tests take on a small machine

# The imports that are timed, after those that are not.
TORCH = ("torch", "torchvision")
IMPORTS = {
    "package": (TORCH, "import mnist_loop"),
    "command line": (TORCH, "import mnist_loop.cli"),
    "public names": (TORCH, "from mnist_loop import *"),
    "command line alone": ((), "import mnist_loop.cli"),  # as in `mnist-loop --help`, which does without torch
    "pytest plugin": (("pytest",), "import mnist_loop.pytest_plugin"),
}
IMPORT = """
import sys, time
begun = time.perf_counter()
{before}
there, cpu, between = {{*sys.modules}}, time.process_time(), time.perf_counter()
{statement}
ended, cpu = time.perf_counter(), time.process_time() - cpu
import json
found = {{"seconds": ended - between, "cpu_s": cpu, "before_s": between - begun}}
found |= {{"there": [*there], "new": sorted({{*sys.modules}} - there), "file": sys.modules["mnist_loop"].__file__}}
json.dump(found, sys.stdout)
"""
START = """
import sys, time, pytest
code = pytest.main(sys.argv[1:])
print(time.process_time())
sys.exit(code)
"""
KINDS = ("seconds", "cpu_s", "before_s")


@pytest.fixture
def facts():
    """The facts that each benchmark stores."""
    return {"device": "cpu", "data": "none", "state": machine.current_state()}


def test_import(benchmark, facts):
    """Seconds of importing mnist_loop after torch, and those of torch in the same process."""
    if not benchmark.disabled:
        _import_all(IMPORTS)  # so that the bytecode is there
    rounds = []

    def run():
        names = list(IMPORTS)[:: -1 if len(rounds) % 2 else 1]
        rounds.append({"start": _now(), **_import_all(names)})

    benchmark.pedantic(run, rounds=ROUNDS)
    benchmark.extra_info |= {
        **facts,
        "imports": {name: {kind: quartiles([one[name][kind] for one in rounds]) for kind in KINDS} for name in IMPORTS},
        "rounds": rounds,
    }


def test_plugin(benchmark, facts, tmp_path):
    """Seconds that the plugin adds to a start of pytest without a loop: starts with and without it by turns."""
    if not entry_points(group="pytest11", name="mnist_loop"):
        pytest.skip("mnist_loop is not installed here, so that pytest finds no plugin of it")
    if not benchmark.disabled:
        _start_pytest(tmp_path, plugin=True)
    rounds = []

    def run():
        start = _now()
        seconds = {False: 0.0, True: 0.0}
        for plugin in (False, True, True, False):
            seconds[plugin] += _start_pytest(tmp_path, plugin) / 2
        rounds.append({"start": start, "without_cpu_s": seconds[False], "with_cpu_s": seconds[True]})

    benchmark.pedantic(run, rounds=PAIRS)
    benchmark.extra_info |= {
        **facts,
        "without_cpu_s": median(pair["without_cpu_s"] for pair in rounds),
        "with_cpu_s": median(pair["with_cpu_s"] for pair in rounds),
        "added_cpu_s": quartiles([pair["with_cpu_s"] - pair["without_cpu_s"] for pair in rounds]),
        "rounds": rounds,
    }


def test_property_suite(benchmark, facts, tmp_path):
    """Seconds of the project's own ``pytest tests``, all of which pass."""
    if not (CHECKOUT / SMALL).is_file():
        pytest.skip("needs a checkout: an installed package has no tests")
    tests, found = SMALL if benchmark.disabled else "tests", tmp_path / "found.xml"
    command = ("-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={found}", "-o", "junit_family=xunit1", tests)
    start = _now()
    done, seconds = benchmark.pedantic(_python, args=command, kwargs={"cwd": CHECKOUT}, rounds=1)
    assert done.returncode == pytest.ExitCode.OK, done.stdout[-5000:]
    (suite,) = ElementTree.parse(found).getroot()  # noqa: S314  # pytest has just written it
    ran, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    assert ran > skipped, "no test ran"
    of_file = Counter()
    for case in suite.iter("testcase"):
        of_file[case.attrib["file"]] += float(case.attrib["time"])
    benchmark.extra_info |= {
        **facts,
        "start": start,
        "tests": tests,
        "seconds": seconds,
        "passed": ran - skipped,
        "skipped": skipped,
        "slowest_files": dict(of_file.most_common(SLOWEST)),
    }


def _import_all(names):
    """Import each in a process of its own; return the seconds of that and of what came before."""
    return {name: _import(*IMPORTS[name]) for name in names}


def _import(before, statement):
    code = IMPORT.format(before="\n".join(f"import {name}" for name in before), statement=statement)
    done, _ = _python("-c", code, cwd=PACKAGES)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["file"] == mnist_loop.__file__, f"another mnist_loop was imported: {found['file']}"
    assert {*before} <= {*found["there"]}
    assert "mnist_loop" in found["new"], "mnist_loop was there before the clock began"
    theirs = [name for name in found["new"] if name.split(".")[0] in TORCH]
    assert not theirs, f"{statement}: the seconds count what is torch's: {', '.join(theirs[:3])}"
    return {kind: found[kind] for kind in KINDS}


def _start_pytest(folder, plugin):
    """Let pytest collect an empty folder; return its CPU seconds."""
    options = ("--collect-only", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", folder, "--noconftest")
    without = () if plugin else ("-p", "no:mnist_loop")
    done, _ = _python("-c", START, *options, *without, folder, cwd=PACKAGES)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout + done.stderr
    *lines, seconds = done.stdout.splitlines()
    (plugins,) = [line for line in lines if line.startswith("plugins: ")]
    assert ("mnist_loop-" in plugins) == plugin, plugins
    return float(seconds)


def _python(*arguments, cwd):
    """Run Python; return the ended process and its seconds."""
    # Without the person's settings of pytest, and with the bytecode kept.
    unset = ("PYTEST_", "HYPOTHESIS_", "PYTHONDONTWRITEBYTECODE")
    env = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    command = [sys.executable, *map(str, arguments)]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=env, timeout=LIMIT_S, capture_output=True, text=True, check=False)
    return done, time.perf_counter() - begun


def _now():
    return datetime.now(timezone.utc).isoformat()
