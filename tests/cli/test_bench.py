"""``mnist-loop bench``: the options it hands to pytest, exit codes."""

import pytest

from mnist_loop.cli import bench, main
from mnist_loop.engines import IN_ONE_PROCESS


@pytest.fixture
def handed_over(monkeypatch):
    """What pytest would be called with, and what it then returns."""
    calls = []
    calls_return = {"code": 0}

    def fake(arguments):
        calls.append(arguments)
        return calls_return["code"]

    monkeypatch.setattr(pytest, "main", fake)
    return calls, calls_return


def test_options_reach_pytest(handed_over):
    """Each option is pytest's of the same name; the benchmark files are found; what was not given is not handed on."""
    calls, _ = handed_over
    assert main(["bench"]) == 0
    options = "--batch-sizes 64,16 --device cpu --data digits --threads 1 --engines all"
    assert main(["bench", *options.split()]) == 0
    for arguments in calls:
        assert "--benchmark-only" in arguments
        assert arguments[-1].endswith("benchmarks")
        assert arguments[arguments.index("-m") + 1] == "not slow"
    assert not {"--batch-sizes", "--device", "--data", "--threads", "--engines"} & set(calls[0])
    text = " ".join(calls[1])
    for option in (
        "--batch-sizes 16,64",
        "--device cpu",
        "--data digits",
        "--threads 1",
        "--engines " + ",".join(IN_ONE_PROCESS),
    ):
        assert option in text


def test_time_to_accuracy_is_asked_for(handed_over):
    """The slow benchmark runs where it is asked for."""
    calls, _ = handed_over
    main(["bench", "--time-to-accuracy"])
    place = calls[0].index("-m")
    assert calls[0][place : place + 4] == ["-m", "slow or not slow", "-k", "time_to_accuracy or not slow"]


@pytest.mark.parametrize(("pytests", "ours"), [(0, 0), (1, 1), (2, 130), (4, 2), (3, 3), (5, 5)])
def test_exit_codes_are_those_of_the_command_line(handed_over, pytests, ours):
    """Ctrl-C is 130 and misuse 2, as for every command; the rest is pytest's."""
    _, calls_return = handed_over
    calls_return["code"] = pytests
    assert main(["bench"]) == ours


def test_missing_benchmarks_are_told(tmp_path, monkeypatch):
    """A package without its benchmark files says so."""
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "mnist_loop" / "cli" / "bench.py"))
    assert main(["bench"]) == 2


def test_a_device_that_cannot_be_is_one_sentence(capsys):
    """It is ours, and not of how pytest is called."""
    assert main(["bench", "--device", "cpu,nope"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("mnist-loop: device 'nope': not supported, expected auto, ")
    assert said.err.count("\n") == 1
