"""What other programs use of the CPUs, and the hint that follows from it."""

import subprocess
import sys
import time

import pytest

from mnist_loop.bench.machine import load


@pytest.mark.parametrize(
    ("others", "threads", "cpus", "busy"),
    [
        (1.2, 2, 2, True),
        (0.6, 4, 4, True),
        (0.3, 2, 2, False),
        (1.2, 1, 2, False),
        (1.2, 2, 4, False),
        (30, 40, 64, True),
    ],
)
def test_a_busy_machine_is_told_where_it_matters(others, threads, cpus, busy):
    """With several threads, where the CPUs are too few for them and for the others."""
    hint = load.too_busy(others, threads, cpus)
    assert bool(hint) == busy
    if busy:
        assert f"{others:.1f} of the {cpus} CPUs" in hint
        assert "--threads 1" in hint


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may not tell of all processes")
def test_other_programs_are_counted():
    """A process that computes uses CPU time, which is not ours."""
    before = load._seconds()
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        while load._seconds() < before + 0.5:
            time.sleep(0.05)
    finally:
        other.kill()
        other.wait()
