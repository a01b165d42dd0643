"""The check at the end of a session finds what tests leave behind, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mnist_loop.support.leftovers import make_folder, part_of, release
from tests.left_behind import Watch
from tests.programs import running

ORPHAN = """
import subprocess, sys
command = [sys.executable, "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)
"""


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """One that began before this test did anything, with a mark of its own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.delenv("MNIST_LOOP_TESTS", raising=False)
    (tmp_path / "tmp").mkdir()
    found = Watch(tmp_path)
    monkeypatch.setenv("MNIST_LOOP_TESTS", found.mark)
    return found


def test_folders_and_parts_are_found(tmp_path: Path, watch: Watch) -> None:
    """Those that nobody uses."""
    folder, lock = make_folder("native")
    part = part_of(tmp_path / "result.json")
    part.write_text("half")
    (tmp_path / "result.json").write_text("whole")
    assert watch.folders() == [str(part)]
    release(lock)
    assert sorted(watch.folders()) == sorted([str(part), str(folder)])


def test_processes_are_found(watch: Watch) -> None:
    """A child, and one whose parent has ended."""
    with running([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        told = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=True)
        orphan = psutil.Process(int(told.stdout))
        try:
            found = " ".join(watch.processes())
            assert f"process {child.pid}: " in found
            assert f"process {orphan.pid}: " in found
        finally:
            orphan.kill()
    orphan.wait(20)
    assert f"process {child.pid}: " not in " ".join(watch.processes())


def test_a_session_that_leaves_something_fails(pytester: pytest.Pytester) -> None:
    """With its name."""
    pytester.makeconftest(
        "import pytest\nfrom tests import left_behind\n"
        "from tests.conftest import LEFT, pytest_sessionfinish, pytest_sessionstart\n"
        "left_behind.GRACE_S = 0.0\n"
    )
    pytester.makepyfile(
        "from pathlib import Path\n"
        "from mnist_loop.support.leftovers import make_folder, release\n"
        "def test_it(): release(make_folder('native', Path())[1])"
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["left behind by the tests: *.mnist-loop-native-*"])
