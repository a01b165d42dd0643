"""Arms: what a person may name on the command line of a comparison, and what is said where it is not there."""

import os
import sys
from pathlib import Path

import pytest

from mnist_loop.compare import arms
from mnist_loop.compare.arms import PACKAGE, parse_arm, parse_arms
from mnist_loop.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOX_ENV_NAME", raising=False)
    return tmp_path


def make_python(path):
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    return str(path)


def make_checkout(path):
    (path / "mnist_loop").mkdir(parents=True)
    (path / "mnist_loop" / "loop.py").touch()
    return path / "mnist_loop"


def test_this_environment():
    """A dot is the Python that runs the comparison, and the loop that came with it."""
    arm = parse_arm(".")
    assert (arm.python, arm.package, arm.settings, arm.variables) == (sys.executable, PACKAGE, {}, {})
    assert (PACKAGE / "loop.py").is_file()


@pytest.mark.parametrize("spec", ["env", "env/bin/python", "./env"])
def test_an_environment_by_its_folder_or_its_python(folder, spec):
    """Symbolic links stay: what they point to is a Python outside of the environment."""
    python = make_python(folder / "env" / "bin" / "python")
    assert parse_arm(spec).python == python
    Path(python).unlink()
    Path(python).symlink_to(sys.executable)
    assert parse_arm(spec).python == python


@pytest.mark.parametrize("spec", ["py312-torch214", ".tox/py312-torch214"])
def test_a_tox_environment_by_its_name(folder, spec):
    """With .tox before it or without."""
    assert parse_arm(spec).python == make_python_once(folder / ".tox" / "py312-torch214" / "bin" / "python")


def make_python_once(path):
    return str(path) if path.exists() else make_python(path)


@pytest.fixture(autouse=True)
def tox_environment(folder):
    return make_python(folder / ".tox" / "py312-torch214" / "bin" / "python")


@pytest.mark.parametrize("spec", ["branch", "branch/mnist_loop"])
def test_a_checkout_by_its_folder(folder, spec):
    """Its loop runs in the Python that compares."""
    package = make_checkout(folder / "branch")
    arm = parse_arm(spec)
    assert (arm.python, arm.package) == (sys.executable, package)


def test_settings_follow_a_colon_or_stand_alone():
    """In capitals they are environment variables."""
    arm = parse_arm("py312-torch214:threads=2,dtype=bfloat16,OMP_WAIT_POLICY=active")
    assert (arm.settings, arm.variables) == ({"threads": 2, "dtype": "bfloat16"}, {"OMP_WAIT_POLICY": "active"})
    alone = parse_arm("threads=2,device=cuda:0")
    assert (alone.python, alone.settings) == (sys.executable, {"threads": 2, "device": "cuda:0"})
    assert parse_arm(".:slowdown=3%").settings == parse_arm(".:slowdown=0.03").settings == {"slowdown": 0.03}
    assert parse_arm(".:batch-size=16").settings == {"batch_size": 16}


def test_common_settings_hold_where_an_arm_sets_none():
    """With two arms, --set is for both."""
    first, second = parse_arms([".", ".:threads=4"], ["threads=1", "dtype=float64"])
    assert first.settings == {"threads": 1, "dtype": "float64"}
    assert second.settings == {"threads": 4, "dtype": "float64"}


def test_each_set_is_an_arm_where_fewer_than_two_are_named():
    """A single one is compared with the environment as it is."""
    labels = [arm.label for arm in parse_arms([], ["threads=1", "threads=2", "threads=3"])]
    assert labels == ["threads=1", "threads=2", "threads=3"]
    plain, changed = parse_arms(["py312-torch214"], ["threads=1"])
    assert (plain.label, plain.settings) == ("py312-torch214", {})
    assert (changed.label, changed.settings) == ("threads=1", {"threads": 1})
    assert plain.python == changed.python != sys.executable


def test_arms_that_are_named_alike_are_told_apart():
    """A comparison of something with itself is a fair question."""
    assert [arm.label for arm in parse_arms([".", "."], [])] == [". (1)", ". (2)"]


def test_arms_share_a_host_where_they_share_an_environment():
    """Settings are set in the worker; variables must be there from its start."""
    arm = parse_arm(".")
    assert arm.host == parse_arm("threads=2").host
    assert arm.host != parse_arm("OMP_NUM_THREADS=2").host
    assert arm.host != parse_arm("py312-torch214").host
    assert arm.host == arm.again().host
    assert arm.again().label == ". again"


@pytest.mark.parametrize(
    ("specs", "settings", "message"),
    [
        (["nowhere", "."], [], "nowhere: not there, nor in .tox; expected an environment or a checkout"),
        (["empty", "."], [], "empty: no Python and no mnist_loop in it; expected"),
        (["."], [], r"one arm found \(\.\), expected two or more"),
        ([".", ".:threads"], [], "threads: not there"),
        ([".", ".:threads="], [], "setting 'threads=': expected NAME=VALUE"),
        ([".", ".:threads=0"], [], "setting threads=0: '0' found, expected a whole number of at least 1"),
        (
            [".", ".:speed=1"],
            [],
            "setting 'speed': not known, expected threads, batch_size, device, dtype, engine, slowdown",
        ),
        ([".", ".:dtype=int8"], [], "setting dtype=int8: not known, expected float32, float64"),
        ([".", "."], ["thread=1"], "setting 'thread': not known"),
        ([".", ".:slowdown=x%"], [], "setting slowdown=x%: "),
    ],
)
def test_a_slip_of_the_fingers_is_one_sentence(folder, specs, settings, message):
    """It says what was found, and what was expected."""
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=message) as raised:
        parse_arms(specs, settings)
    assert "\n" not in str(raised.value)


def test_tox_makes_the_environments_that_it_is_asked_to_compare(folder, monkeypatch):
    """`tox -e compare -- torch29 torch215`: inside tox, a name without an environment is given to tox, once."""
    ran = []

    def run(command, **options):
        ran.append((command[1:], "TOX_ENV_NAME" in options["env"]))
        make_python(folder / ".tox" / "torch29" / "bin" / "python")
        return arms.subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(arms.subprocess, "run", run)
    with pytest.raises(UserError, match=r"torch29: not there"):
        parse_arm("torch29")
    monkeypatch.setenv("TOX_ENV_NAME", "compare")
    assert parse_arm("torch29").python == os.path.abspath(".tox/torch29/bin/python")  # noqa: PTH100
    assert parse_arm("torch29").label == "torch29"
    assert ran == [(["-m", "tox", "run", "--notest", "-e", "torch29"], False)]


def test_what_tox_cannot_make_is_not_there(monkeypatch):
    """It has said why; here it is one sentence."""
    monkeypatch.setenv("TOX_ENV_NAME", "compare")
    monkeypatch.setattr(arms.subprocess, "run", lambda command, **_: arms.subprocess.CompletedProcess(command, 1))
    with pytest.raises(UserError, match=r"torch1: not there, nor in .tox"):
        parse_arm("torch1")
