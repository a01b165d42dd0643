"""Values that no command can use: one sentence that names the value, and exit code 2, before torch is imported."""

import subprocess
import sys

import pytest

from mnist_loop.cli import main

REFUSED = [
    *(("compare", ".", f".:slowdown={value}", value) for value in ("inf%", "nan%", "1e9%", "-50%", "2")),
    ("bench", "--threads", "99999999", "at most 1024"),
    ("bench", "--data", "/nope", "--data /nope: no such folder"),
    ("verify", "a.py:f", "--declare", "accumulate=1000000000", "accumulate=1000000000"),
    ("verify", "a.py:f", "--declare", "classes=1000000000", "classes=1000000000"),
    ("verify", "a.py:f", "--declare", "input_shape=3,100000,100000", "input_shape="),
]


@pytest.mark.parametrize("row", REFUSED, ids=" ".join)
def test_a_value_that_cannot_be_used_is_refused_in_one_sentence(row, capsys):
    """It says what was found, and what was expected."""
    *command, told = row
    try:
        code = main(command)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("mnist-loop")
    assert err.count("\n") == 1
    assert told in err
    assert "expected" in err


@pytest.mark.parametrize("row", [REFUSED[0], REFUSED[5], REFUSED[6]], ids=" ".join)
def test_torch_is_not_imported_for_it(row):
    """The sentence comes at once."""
    code = f"import sys; from mnist_loop.cli import main\ntry: code = main({list(row[:-1])!r})\n"
    code += "except SystemExit as stop: code = stop.code\nassert code == 2\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
