"""``mnist-loop train`` from end to end: its lines, its exit codes, its files; interrupted, resumed and misused."""

import contextlib
import errno
import io
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch._inductor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_loop.cli import main
from mnist_loop.cli.signals import held_back
from mnist_loop.data import idx, load_data, make_loaders
from mnist_loop.engines import compiled
from mnist_loop.loop import fit
from mnist_loop.model import MLP
from mnist_loop.support.progress import Progress
from mnist_loop.training.checkpoint import Checkpoint
from tests.programs import running

TRAIN, TEST = 320, 64  # images: with batches of 64 an epoch is five batches of training and one of testing
NAME = "MNIST (modified)"  # what made-up files in MNIST's place are called


class Result(NamedTuple):
    """What a run left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with a small data set in MNIST's place: ten patterns and noise, so that there is something to learn."""
    root = tmp_path_factory.mktemp("tiny")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    patterns = numbers.integers(0, 180, (10, 28, 28))
    for split, size in (("train", TRAIN), ("test", TEST)):
        labels = np.arange(size) % 10
        images = patterns[labels] + numbers.integers(0, 76, (size, 28, 28))
        for name, array in zip(idx.file_names(split), (images, labels), strict=True):
            (raw / name).write_bytes(idx.encode(array.astype(np.uint8)))
    return root


@pytest.fixture(scope="session")
def train(tiny):
    """Run ``mnist-loop train`` on the small data set, with one thread, in this process."""

    def train(*options, data=tiny):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(["train", "--data", str(data), "--device", "cpu", "--threads", "1", *map(str, options)])
            except SystemExit as stop:  # as argparse ends
                code = stop.code
        assert "Traceback" not in out.getvalue() + err.getvalue()
        return Result(code, out.getvalue(), err.getvalue())

    return train


@contextlib.contextmanager
def at_batch(number, action):
    """Call ``action`` when the ``number``-th batch of a run is done, of training and testing together, from 1."""
    advance, done = Progress.advance, iter(range(1, 10**9))

    def counted(progress):
        advance(progress)
        if next(done) == number:
            action()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "advance", counted)
        yield


def ctrl_c():
    raise KeyboardInterrupt


def assert_one_sentence(result, *fragments):
    """Misuse: exit code 2 and one line on stderr."""
    assert result.code == 2
    assert result.err.startswith("mnist-loop")
    assert result.err.count("\n") == 1
    for fragment in fragments:
        assert fragment in result.err


def assert_same_checkpoint(file, other):
    """Both files hold the same state, bit for bit."""
    one, two = Checkpoint.load(file), Checkpoint.load(other)
    assert one.settings == two.settings
    assert one.history == two.history
    for part in ("model", "optimizer", "rng"):
        torch.testing.assert_close(getattr(one, part), getattr(two, part), rtol=0, atol=0)


# What it prints


def test_it_prints_the_lessons_lines(train, tiny):
    """Data and device; the lesson's line every 100 batches; losses and accuracy after each epoch; a summary."""
    result = train("--epochs", 2, "--batch-size", 3)  # 107 batches
    loss, accuracy = r"\d+\.\d{4}", r"[01]\.\d{4}"
    epochs = []
    for epoch in (1, 2):
        epochs += [rf"Epoch: {epoch}/2 \| Batch: {batch}/107 \| Loss: {loss}" for batch in (0, 100)]
        epochs += [rf"Epoch: {epoch}/2 \| Train loss: {loss} \| Test loss: {loss} \| Test accuracy: {accuracy}"]
    expected = [
        rf"data: {re.escape(NAME)} from {re.escape(str(tiny))} .*",
        rf"device: cpu \| CPU threads: 1 \| torch: {re.escape(torch.__version__)}",
        *epochs,
        rf"finished: 2 of 2 epochs in \d+\.\d s on {re.escape(NAME)}, test accuracy {accuracy}",
    ]
    lines = result.out.splitlines()
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), line
    assert result.code == 0
    assert result.err == ""


def test_without_options_it_is_the_lesson(train, tiny):
    """Five epochs, batches of 64, lr 0.01, seed 0: bitwise what the lesson's own lines give."""
    result = json.loads(train("--json").out)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MLP()
        train_loader, test_loader = make_loaders(load_data(tiny), 64)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        expected = fit(model, train_loader, test_loader, nn.CrossEntropyLoss(), optimizer, "cpu", 5)
    assert result["history"] == [vars(epoch) for epoch in expected]
    assert result["epochs"] == len(expected)


def test_the_result_as_json(train, tmp_path):
    """Nothing but JSON on stdout, with these keys; the lines are on stderr."""
    file = tmp_path / "run.pt"
    options = ("--epochs", 2, "--batch-size", 32, "--lr", 0.05, "--seed", 7, "--target-accuracy", 0, "--save", file)
    result = train(*options, "--json")
    document = json.loads(result.out, parse_constant=pytest.fail)
    seconds, history = document.pop("seconds"), document.pop("history")
    assert 0 <= document.pop("prepare_seconds") < seconds
    assert document == {
        "schema": 1,
        "exit_code": 0,
        "ended": "finished",
        "reason": None,
        "settings": {
            "batch_size": 32,
            "lr": 0.05,
            "seed": 7,
            "data": NAME,
            "device": "cpu",
            "threads": 1,
            "torch": str(torch.__version__),
            "engine": "reference",
        },
        "epochs": 2,
        "target_accuracy": 0.0,
        "checkpoint": str(file),
    }
    assert seconds > 0
    assert [line["epoch"] for line in history] == [1, 2]
    for line in history:
        assert list(line) == ["epoch", "train_loss", "test_loss", "test_accuracy"]
        assert f"Test accuracy: {line['test_accuracy']:.4f}" in result.err
        assert f"Train loss: {line['train_loss']:.4f} | Test loss: {line['test_loss']:.4f}" in result.err


def test_the_same_seed_is_the_same_run(train):
    """Two runs agree to the last bit; another seed gives another."""

    def history(*options):
        return json.loads(train("--epochs", 1, "--json", *options).out)["history"]

    assert history("--seed", 5) == history("--seed", 5) != history("--seed", 6)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 on, of torch's own workers
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one CPU
def test_workers_change_nothing(train, tmp_path):
    """Processes that load the data give the same parameters and the same shuffling, bit for bit."""
    train("--epochs", 1, "--save", tmp_path / "none.pt")
    train("--epochs", 1, "--save", tmp_path / "two.pt", "--workers", 2)
    assert_same_checkpoint(tmp_path / "none.pt", tmp_path / "two.pt")


def test_threads_are_used_and_put_back(train):
    """The run has as many threads as were asked for; afterwards there are as many as before."""
    before, during = torch.get_num_threads(), []
    with at_batch(1, lambda: during.append(torch.get_num_threads())):
        train("--epochs", 1, "--threads", before + 1)
    assert during == [before + 1]
    assert torch.get_num_threads() == before


# Whether it was good enough


def test_the_target_decides_the_exit_code(train):
    """Reached is 0, the very accuracy too; missed is 1; both say the figure."""
    history = json.loads(train("--epochs", 1, "--json").out)["history"]
    accuracy = history[-1]["test_accuracy"]
    assert 0 < accuracy < 1
    for target, code, verb in ((accuracy, 0, "reaches"), (0, 0, "reaches"), (math.nextafter(accuracy, 1), 1, "misses")):
        result = train("--epochs", 1, "--target-accuracy", repr(target))
        assert result.code == code
        assert result.out.splitlines()[-1] == f"test accuracy {accuracy:.4f} {verb} the target {float(target)}"


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (["--batch-size", 64], "the loss is nan at batch 1 of epoch 1"),
        (["--batch-size", TRAIN], "the test loss is nan"),
    ],
)
def test_a_loss_that_is_not_finite_ends_the_run(train, tmp_path, options, where):
    """It says where, ends with 1, and writes no such parameters; JSON stays JSON. What is saved is of no use here."""
    file = tmp_path / "run.pt"
    result = train("--lr", 1e30, *options, "--save", file, "--json", "--target-accuracy", 0)
    document = json.loads(result.out, parse_constant=pytest.fail)
    assert result.code == document["exit_code"] == 1
    assert document["ended"] == "stopped"
    assert document["history"] == []
    assert document["reason"].startswith(where)
    assert document["reason"] in result.err
    assert "a lower --lr than 1e+30 may help" in result.err
    assert "--resume" not in result.err, "to go on from there would end in the same way"
    assert all(value.isfinite().all() for value in Checkpoint.load(file).model.values())


# Interrupted and resumed


@settings(max_examples=8)
@given(
    epochs=st.integers(1, 3),
    batch_size=st.sampled_from([50, 64, TRAIN]),
    seed=st.integers(0, 2**64 - 1),
    where=st.floats(0, 1, exclude_max=True),
)
def test_interrupted_and_resumed_is_uninterrupted(train, epochs, batch_size, seed, where):
    """Ctrl-C at any batch, then the very options that the summary gives: bitwise one run throughout."""
    options = ("--epochs", epochs, "--batch-size", batch_size, "--seed", seed, "--lr", 0.1)
    total = epochs * (math.ceil(TRAIN / batch_size) + math.ceil(TEST / batch_size))
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "whole run.pt", Path(folder) / "two runs.pt"
        assert train(*options, "--save", one).code == 0
        with at_batch(1 + int(where * total), ctrl_c):
            interrupted = train(*options, "--save", two)
        assert interrupted.code == 130
        advice = re.search(r"; go on from it with (--resume .*)", interrupted.out)
        resumed = train(*shlex.split(advice[1]))
        assert resumed.code == 0
        assert "resumed from" in resumed.out
        assert_same_checkpoint(one, two)


def test_ctrl_c_says_what_is_finished(train, tmp_path):
    """In the second epoch: one epoch is finished, and saved; the summary says both, as lines and as JSON."""
    file = tmp_path / "run.pt"
    with at_batch(8, ctrl_c):
        result = train("--epochs", 3, "--save", file, "--json", "--target-accuracy", 1)
    document = json.loads(result.out)
    assert result.code == document["exit_code"] == 130
    assert document["ended"] == "interrupted"
    assert [line["epoch"] for line in document["history"]] == [1]
    accuracy = document["history"][-1]["test_accuracy"]
    summary, checkpoint = result.err.splitlines()[-2:]
    assert re.fullmatch(
        rf"interrupted: 1 of 3 epochs in \d+\.\d s on {re.escape(NAME)}, test accuracy {accuracy:.4f}", summary
    )
    assert checkpoint.startswith(f"checkpoint: {file}, after epoch 1; go on from it with --resume {file} --epochs 3")
    assert len(Checkpoint.load(file).history) == 1


def test_ctrl_c_before_the_training_is_quiet(train, monkeypatch):
    """While the data are looked for there is nothing to sum up."""
    monkeypatch.setattr("mnist_loop.data.load_data", lambda where: ctrl_c())
    assert train() == Result(130, "", "mnist-loop: interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_is_as_ctrl_c(train, number):
    """A scheduler's, or that of a closed terminal: it leads to the summary; afterwards it is handled as before."""

    def unanswered(number, frame):
        raise AssertionError(f"signal {number} was not answered by the run")

    before = signal.signal(number, unanswered)
    try:
        with at_batch(3, lambda: os.kill(os.getpid(), number)):
            result = train("--epochs", 2)
        assert signal.getsignal(number) is unanswered
    finally:
        signal.signal(number, before)
    assert result.code == 130
    assert "interrupted: 0 of 2 epochs" in result.out


def test_a_closed_terminal_does_not_end_what_nohup_started(train):
    """SIGHUP stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with at_batch(3, lambda: os.kill(os.getpid(), signal.SIGHUP)):
            assert train("--epochs", 1).code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_held_back_while_torch_loads(number):
    """What runs within comes to its end; then the interruption is raised; the handlers are those of before."""
    nohup = signal.signal(number, signal.default_int_handler)  # which has the tests ignore SIGHUP
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    told, ended = [], []

    def interrupted():
        with held_back(lambda: told.append(number)):
            os.kill(os.getpid(), number)
            ended.append(True)

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert (told, ended) == ([number], [True])
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    finally:
        signal.signal(number, nohup)


def test_it_runs_in_a_thread(train):
    """Where no handler may be set, none is."""
    results = []
    thread = threading.Thread(target=lambda: results.append(train("--epochs", 1)))
    thread.start()
    thread.join()
    assert results[0].code == 0


def test_resume_goes_on_with_the_settings_of_the_checkpoint(train, tmp_path):
    """What is not given comes from the file; the file is kept up to date, or, with --save, left as it is."""
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    settings = ("--batch-size", 32, "--lr", 0.05, "--seed", 3)
    assert train("--epochs", 1, *settings, "--save", first).code == 0
    before = first.read_bytes()
    result = train("--epochs", 2, "--resume", first, "--save", second, "--json")
    assert first.read_bytes() == before
    assert {"batch_size": 32, "lr": 0.05, "seed": 3}.items() <= json.loads(result.out)["settings"].items()
    assert f"resumed from {first}, after epoch 1" in result.err
    assert train("--epochs", 2, "--resume", first, *settings).code == 0, "the same settings may be given again"
    assert_same_checkpoint(first, second)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.pt", "second.pt"]


def test_a_finished_run_may_be_asked_again(train, tmp_path):
    """All epochs are done: nothing is trained, and the target is judged."""
    file = tmp_path / "run.pt"
    train("--epochs", 1, "--save", file)
    result = train("--epochs", 1, "--resume", file, "--save", tmp_path / "." / "run.pt", "--target-accuracy", 1)
    assert result.code == 1
    assert "nothing to do: 1 of 1 epoch is done, test accuracy " in result.out
    assert "finished:" not in result.out
    assert "Batch:" not in result.out


def test_another_number_of_threads_is_told(train, tmp_path):
    """It may change the last bits of the result, and that is said."""
    file = tmp_path / "run.pt"
    train("--epochs", 1, "--save", file)
    result = train("--epochs", 1, "--resume", file, "--threads", 2)
    assert "threads was 1 and is 2: the result may differ in its last bits" in result.out


# Misuse: one sentence, exit code 2, nothing lost


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (["--epochs", "0"], ["--epochs", "'0' found", "at least 1"]),
        (["--batch-size", "0"], ["--batch-size", "at least 1"]),
        (["--batch-size", "9" * 20], ["--batch-size", "at most"]),
        (["--batch-size", TRAIN + 1], [f"a batch size of {TRAIN + 1} found, expected at most {TRAIN}"]),
        (["--lr", "nan"], ["--lr", "'nan' found", "a number above 0"]),
        (["--lr", "-1"], ["--lr", "'-1' found", "a number above 0"]),
        (["--seed", str(2**70)], ["--seed", "at most 18446744073709551615"]),
        (["--threads", "0"], ["--threads", "at least 1"]),
        (["--workers", "100000"], ["--workers", "at most 1024"]),
        (["--target-accuracy", "92"], ["--target-accuracy", "92 percent is 0.92"]),
        (["--device", "foo"], ["device 'foo'", "expected auto, cpu, cuda, cuda:N or mps"]),
        (["--device", "cuda:99"], ["device 'cuda:99'", "not on this machine"]),
        (["--data", "nowhere"], ["nowhere: no such folder"]),
        (["--save", ""], ["is a folder, expected the name of a new file"]),
        (["--save", "nowhere/run.pt"], ["nowhere/run.pt: there is no folder nowhere"]),
        (["--save", "x" * 300], ["File name too long"]),
        (["--resume", "nowhere.pt"], ["nowhere.pt: cannot be read (No such file or directory)"]),
        (["--resume", "."], ["Is a directory"]),
        (["--epoch", "three"], ["'three' found"]),
        (["--nonsense"], ["unrecognized arguments: --nonsense"]),
        (["nonsense"], ["unrecognized arguments: nonsense"]),
    ],
    ids=lambda value: value[0].strip("-") if value[0].startswith("-") else "",
)
def test_misuse_is_one_sentence(train, options, fragments, tmp_path, monkeypatch):
    """It says what was found and what was expected, on stderr; nothing is trained and nothing is written."""
    monkeypatch.chdir(tmp_path)
    result = train(*options)
    assert_one_sentence(result, *fragments)
    assert "Epoch:" not in result.out
    assert list(tmp_path.iterdir()) == []


def test_misuse_of_the_program_is_one_sentence(capsys):
    """Without a command, or with one that there is not."""
    for argv, fragment in (([], "required: COMMAND"), (["tarin"], "'tarin'")):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert_one_sentence(Result(stop.value.code, *capsys.readouterr()), fragment, "see mnist-loop --help")


EDITED = {
    "a list": (lambda content: content.update(settings=[1]), "its settings are a list"),
    "a list as batch size": (lambda content: content["settings"].update(batch_size=[64]), "batch size in its settings"),
    "batch size -4": (lambda content: content["settings"].update(batch_size=-4), "batch size in its settings is -4"),
    "batch size as text": (lambda content: content["settings"].update(batch_size="64"), "is '64', expected a whole"),
    "seed 2^80": (lambda content: content["settings"].update(seed=2**80), f"seed in its settings is {2**80}"),
    "lr as text": (lambda content: content["settings"].update(lr="fast"), "lr in its settings is 'fast'"),
    "another lr": (lambda content: content["optimizer"]["param_groups"][0].update(lr=0.5), "optimizer has lr 0.5"),
    "a long name": (lambda content: content["settings"].update(torch="x" * 10**6), "torch in its settings is 'xxx"),
    "a tensor": (lambda content: content["settings"].update(device=torch.zeros(3)), "device in its settings is tens"),
    "text for an accuracy": (lambda content: content["history"][0].update(test_accuracy="good"), "not a checkpoint of"),
    "no generator": (lambda content: content.update(rng=None), "of another model or optimizer"),
}


@pytest.mark.parametrize(("edit", "told"), EDITED.values(), ids=EDITED)
def test_an_edited_checkpoint_is_one_sentence(train, tmp_path, edit, told):
    """It says what was changed, and the file stays as it is."""
    file = tmp_path / "run.pt"
    assert train("--epochs", 1, "--save", file).code == 0
    content = torch.load(file, weights_only=True)
    edit(content)
    torch.save(content, file)
    before = file.read_bytes()
    result = train("--epochs", 2, "--resume", file)
    assert_one_sentence(result, told)
    assert len(result.err) < 1000
    assert file.read_bytes() == before


@pytest.mark.parametrize("value", ["many", "", "-1", "0"])
def test_a_variable_of_torchrun_is_named_as_it_is(train, monkeypatch, value):
    """It is no option, and so the sentence has its name."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", value)
    assert_one_sentence(train("--engine", "distributed"), f"$LOCAL_WORLD_SIZE is {value!r}, expected a whole number")


def test_an_existing_file_is_never_overwritten(train, tmp_path):
    """--save wants a new file, so that no result is lost by a repeated command."""
    file = tmp_path / "precious"
    file.write_text("precious")
    result = train("--save", file)
    assert_one_sentence(result, f"{file}: is there already, and would be lost", f"--resume {file}")
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--lr", 0.5], "the checkpoint was trained with lr 0.01, not 0.5"),
        (["--batch-size", 10], "the checkpoint was trained with batch size 64, not 10"),
        (["--seed", 1], "the checkpoint was trained with seed 0, not 1"),
        (["--epochs", 1], "2 epochs are done, expected --epochs 2 or more, not 1"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(train, tmp_path, options, fragment):
    """It does not go on with other settings, nor back; the file is left as it is."""
    file = tmp_path / "run.pt"
    assert train("--epochs", 2, "--save", file).code == 0
    before = file.read_bytes()
    assert_one_sentence(train("--resume", file, *options), fragment)
    assert file.read_bytes() == before


def test_a_damaged_checkpoint_is_refused(train, tmp_path):
    """Half of a file: one sentence, and the half is still there for whoever wants to look at it."""
    file = tmp_path / "run.pt"
    train("--epochs", 1, "--save", file)
    half = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes(half)
    assert_one_sentence(train("--resume", file), f"{file}: not a checkpoint of this version, or damaged")
    assert file.read_bytes() == half


@contextlib.contextmanager
def full_disk(after):
    """Let the disk be full after so many written files."""
    fsync, written = os.fsync, iter(range(10**9))

    def full(descriptor):
        if next(written) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        yield


def test_a_file_that_cannot_be_written_is_told_before_the_training(train, tmp_path):
    """Not after the first epoch, which may take an hour elsewhere."""
    file = tmp_path / "run.pt"
    with full_disk(after=0):
        result = train("--save", file)
    assert_one_sentence(result, f"{file}: cannot be written (No space left on device)")
    assert "Epoch:" not in result.out
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_loses_nothing(train, tmp_path):
    """The run ends with 2 and says why; the epochs are in the summary, and the last checkpoint is whole."""
    file = tmp_path / "run.pt"
    with full_disk(after=2):  # the one before the training, and the one of epoch 1
        result = train("--epochs", 5, "--save", file, "--json")
    document = json.loads(result.out)
    assert result.code == document["exit_code"] == 2
    assert document["ended"] == "stopped"
    assert document["reason"] == f"{file}: cannot be written (No space left on device); the file there is as it was"
    assert [line["epoch"] for line in document["history"]] == [1, 2]
    assert "stopped: 2 of 5 epochs" in result.err
    assert f"checkpoint: {file}, after epoch 1; go on from it with --resume {file} --epochs 5" in result.err
    assert len(Checkpoint.load(file).history) == 1
    assert list(tmp_path.iterdir()) == [file]


def run_into(stream, tiny, *options):
    """Run with ``stream`` as stdout; return the exit code and what is on stderr."""
    err = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(err):
        code = main(["train", "--data", str(tiny), "--device", "cpu", "--threads", "1", "--epochs", "1", *options])
    return code, err.getvalue()


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["lines", "json"])
def test_a_reader_that_has_gone_is_no_error(tiny, options):
    """`mnist-loop train | head -1`: the run ends, quietly, with what a shell expects of that."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        code, err = run_into(stream, tiny, *options)
    assert code == 141
    assert "Traceback" not in err
    assert ("mnist-loop:" in err) is False


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["lines", "json"])
def test_a_full_disk_behind_stdout_is_one_sentence(tiny, options):
    """`mnist-loop train > file`, where the disk is full."""
    with Path("/dev/full").open("w") as stream:
        code, err = run_into(stream, tiny, *options)
    assert code == 2
    assert err.splitlines()[-1] == "mnist-loop: stopped by the operating system: [Errno 28] No space left on device"


def test_a_closed_stdout_is_no_error(tiny, monkeypatch):
    """`mnist-loop train >&-`: there is nobody to tell, and the run is the same."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["train", "--data", str(tiny), "--device", "cpu", "--threads", "1", "--epochs", "1"]) == 0


# As a program of its own


def test_help_does_not_wait_for_torch():
    """The command line is there without torch, which takes seconds to load."""
    code = "import sys, mnist_loop.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # our own


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals to a group of processes")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stage", ["data: ", "Epoch: 1/", "Epoch: 2/"])
def test_ctrl_c_ends_a_real_run(tiny, train, tmp_path, stage, workers):
    """As a terminal sends it, to the whole group, and twice: 130, a summary, a whole checkpoint, no traceback."""
    file = tmp_path / "run.pt"
    options = ["--data", str(tiny), "--device", "cpu", "--threads", "1", "--workers", str(workers)]
    command = [sys.executable, "-m", "mnist_loop", "train", *options, "--epochs", "100000", "--save", str(file)]
    with running(command, start_new_session=True) as process:
        while not process.stdout.readline().startswith(stage):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.2)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert "interrupted" in out + err
    if stage != "data: ":
        assert f"checkpoint: {file}, after epoch " in out
        assert train("--resume", file, "--epochs", len(Checkpoint.load(file).history) + 1).code == 0


@pytest.mark.parametrize("engine", ["resident", "handwritten", "native"])
def test_an_engine_trains_the_same(train, tmp_path, engine):
    """The lines of the lesson, its history, its checkpoint; and a run that one engine began another may go on with."""
    lesson = json.loads(train("--epochs", 2, "--json").out)
    result = train("--epochs", 2, "--json", "--engine", engine, "--save", tmp_path / "run.pt")
    found = json.loads(result.out)
    assert found["settings"]["engine"] == engine
    assert found["prepare_seconds"] >= 0
    for one, other in zip(found["history"], lesson["history"], strict=True):
        assert one == pytest.approx(other, rel=1e-5)  # of float32; see engines/test_engines.py
    again = train("--epochs", 3, "--resume", tmp_path / "run.pt")
    assert f"engine was {engine} and is reference: the result may differ in its last bits" in again.out
    assert again.code == 0


def test_what_an_engine_cannot_do_is_said_before_training(train, monkeypatch, tmp_path):
    """One sentence, exit code 2, no checkpoint."""

    def broken(*_, **__):
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(compiled, "native_is_faster", lambda *_: False)  # which needs no compiler of torch's
    monkeypatch.setattr(torch._inductor, "compile", broken)
    result = train("--engine", "compiled", "--save", tmp_path / "run.pt")
    assert_one_sentence(
        result, "engine compiled: torch's compiler fails here (RuntimeError: No working C++ compiler found)"
    )
    assert "engine compiled: preparing takes up to a minute the first time\n" in result.out
    assert not (tmp_path / "run.pt").exists()
