"""Stored results: written after each benchmark, whole or not at all."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from mnist_loop.bench.result_file import SCHEMA, ResultFile
from mnist_loop.errors import UserError

FACTS = {"data": "Digits"}


def measured(name):
    """What pytest-benchmark says of one benchmark."""
    return {"benchmarks": [{"name": name, "stats": {"median": 1.0}}], "datetime": "now", "version": "5"}


def test_each_benchmark_is_on_disk_as_soon_as_it_is_added(tmp_path):
    """After each benchmark the file holds all so far; it is complete only with the last of those planned."""
    results = ResultFile(tmp_path / "new", "machine_cpu_torch-2", FACTS, ["a", "b"])
    assert not results.path.exists()
    results.add(measured("a"))
    stored = json.loads(results.path.read_text())
    assert [benchmark["name"] for benchmark in stored["benchmarks"]] == ["a"]
    assert stored["mnist_loop"] == {"schema": SCHEMA, "data": "Digits", "planned": ["a", "b"], "complete": False}
    results.add(measured("b"))
    stored = json.loads(results.path.read_text())
    assert [benchmark["name"] for benchmark in stored["benchmarks"]] == ["a", "b"]
    assert stored["mnist_loop"]["complete"]
    assert list(results.path.parent.iterdir()) == [results.path], "something else was left in the folder"


def test_two_sweeps_in_one_second_have_two_files(tmp_path):
    """No result replaces another's."""
    paths = set()
    for _ in range(3):
        results = ResultFile(tmp_path, "machine", FACTS, ["a"])
        results.add(measured("a"))
        paths.add(results.path)
    assert len(paths) == 3


def test_a_full_disk_is_told_and_what_was_stored_stays(tmp_path, monkeypatch):
    """When the second benchmark cannot be written, the file still holds the first."""
    results = ResultFile(tmp_path, "machine", FACTS, ["a", "b"])
    results.add(measured("a"))

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match=r"machine_.*\.json: cannot be written \(No space left on device\)"):
        results.add(measured("b"))
    assert [benchmark["name"] for benchmark in json.loads(results.path.read_text())["benchmarks"]] == ["a"]
    assert len(list(tmp_path.iterdir())) == 1


WRITER = """
import sys
from pathlib import Path
from mnist_loop.bench.result_file import ResultFile
results = ResultFile(Path(sys.argv[1]), "machine", {}, ["never"])
for number in range(100_000):
    results.add({"benchmarks": [{"name": str(number), "text": "x" * 100}]})
    if number == 20:
        print("writing", flush=True)
"""


def test_a_kill_leaves_a_readable_file(tmp_path):
    """A kill -9 at any moment leaves a file that can be read, with all benchmarks that were added before."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        writer.send_signal(signal.SIGKILL)
    (file,) = tmp_path.glob("machine*.json")
    names = [benchmark["name"] for benchmark in json.loads(file.read_text())["benchmarks"]]
    assert names == [str(number) for number in range(len(names))]
    assert len(names) > 20
