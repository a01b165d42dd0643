"""The lesson beside other frameworks: the task, the entries, the run, what is stored, the table."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import torch._inductor

from benchmarks.peers import __main__ as command
from benchmarks.peers import entries, entry_process, losses, outcome, tables, task
from benchmarks.peers import rounds as run
from benchmarks.peers.entry_worker import EntryWorker
from mnist_loop.data import normalise
from mnist_loop.errors import UserError
from mnist_loop.model import MLP

IMAGES, BATCH_SIZE = 1250, 64  # 19 whole batches and a smaller one
EPOCHS = 3
OURS = ("resident", "handwritten", "native", "compiled")
FRAMEWORKS = (
    "lightning",
    "lightning-memory",
    "fabric",
    "accelerate",
    "ignite",
    "skorch",
    "fastai",
    "keras-torch",
    "keras-jax",
    "jax-step",
    "jax-scan",
    "tinygrad",
    "scikit-learn",
)
WITHOUT_FRAMEWORKS = """
import json, sys
frameworks = ("accelerate", "fastai", "ignite", "jax", "keras", "lightning", "numpy", "sklearn", "skorch", "tinygrad")
sys.modules.update(dict.fromkeys([*frameworks, "torch"]))
from benchmarks.peers import entries
found = [(name, entries.load_entry(name)) for name in entries.NAMES]
json.dump([(name, entry.NEEDS, entry.USED) for name, entry in found], sys.stdout)
"""
# Rounding of a mean loss, of float32 losses that were summed in another order.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def little(digits):
    """A task that takes milliseconds: the first of the stand-in images."""
    return task.make_task(digits, IMAGES, BATCH_SIZE)


@pytest.fixture(scope="module")
def expected(little):
    """The losses of the lesson's loop on it."""
    with torch.random.fork_rng(devices=[]):
        epoch = entries.load_entry("reference").start(little)
        return {number: epoch() for number in range(EPOCHS)}


@pytest.fixture(scope="module")
def whole(little):
    """The same with all images in one batch, so that no order matters, and a rate at which each gradient shows."""
    return replace(little, settings=replace(little.settings, batch_size=IMAGES, lr=0.5))


@pytest.fixture(scope="module")
def exact(whole):
    """The losses of the lesson's loop on that."""
    with torch.random.fork_rng(devices=[]):
        epoch = entries.load_entry("reference").start(whole)
        return [epoch() for _ in range(EPOCHS)]


# The task


def test_the_images_are_normalised_as_the_lesson_does_it(little):
    """To the bit, flat."""
    wanted = normalise(torch.from_numpy(little.images)).reshape(len(little.images), -1)
    assert torch.equal(torch.from_numpy(little.floats()), wanted)


def test_a_task_comes_back_as_it_was(little, tmp_path):
    """Each process reads from the folder what the run has made."""
    little.save(tmp_path)
    found = task.load_task(tmp_path)
    assert found.settings == little.settings
    for name in ("images", "labels", "w1", "b1", "w2", "b2"):
        assert np.array_equal(getattr(found, name), getattr(little, name))


def test_the_weights_are_those_that_the_lesson_begins_with(digits):
    """At the same seed; and making the task draws nothing from the generator of others."""
    before = torch.get_rng_state()
    made = task.make_task(digits, 10, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        wanted = MLP()
    for found, parameter in zip((made.w1, made.b1, made.w2, made.b2), wanted.parameters(), strict=True):
        assert torch.equal(torch.from_numpy(found), parameter)


def test_more_images_than_there_are_is_an_error(digits):
    """In one sentence."""
    with pytest.raises(UserError, match="--images 60001: Digits has 60000 to train on"):
        task.make_task(digits, 60_001)


# The entries


def test_an_entry_has_its_facts_without_its_framework():
    """A process that can import no framework still loads every entry."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_FRAMEWORKS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, needs, used in json.loads(done.stdout):
        assert needs, name
        assert used, name


@pytest.mark.parametrize("name", OURS)
def test_our_engines_train_what_the_reference_trains(name, little, expected, monkeypatch):
    """In the same order: to rounding, not to a tolerance."""
    # What was recorded is run as it is: what the compiler makes of it is tried in tests/engines/test_engines.py.
    monkeypatch.setattr(torch._inductor, "compile", lambda graph, *_, **__: graph)
    with torch.random.fork_rng(devices=[]):
        epoch = entries.load_entry(name).start(little)
        note = epoch.prepare()
        found = [epoch() for _ in range(EPOCHS)]
    assert found == pytest.approx(list(expected.values()), rel=ROUNDING)
    assert ("compiled" in note) == (name in ("native", "compiled"))


def test_numpy_trains_what_the_reference_trains(little, expected, whole, exact):
    """In an order of its own: to the tolerance; where no order matters, to rounding."""
    epoch = entries.load_entry("numpy").start(whole)
    assert [epoch() for _ in range(EPOCHS)] == pytest.approx(exact, rel=ROUNDING)
    epoch = entries.load_entry("numpy").start(little)
    found = {number: epoch() for number in range(EPOCHS)}
    assert losses.first_apart(found, expected, losses.tolerance(BATCH_SIZE, IMAGES)) is None
    assert len(set(found.values())) == EPOCHS


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_trains_what_the_reference_trains(name, little, expected, whole, exact, tmp_path):
    """Where it is installed, in a process of its own, as in a run; as NumPy does."""
    # Not importorskip: frameworks change global state as they are imported, and Keras fails without its backend's name.
    absent = run.missing(entries.load_entry(name).NEEDS)
    if absent:
        pytest.skip(f"entry {name}: {', '.join(absent)} is not installed (extra peers)")
    if name == "tinygrad" and not any((Path(folder) / "clang").exists() for folder in os.get_exec_path()):
        pytest.skip("entry tinygrad: it finds no CPU without the program clang")
    little.save(tmp_path)
    worker = entry_process.start_process(name, tmp_path, threads=1)
    try:
        assert worker.peer.ask("start", 100)["versions"]
        worker.peer.ask("prepare", 100)
        found = {number: worker.peer.ask("epoch", 100)["loss"] for number in range(EPOCHS)}
        whole.save(tmp_path)
        worker.peer.ask("start", 100)
        in_one_batch = [worker.peer.ask("epoch", 100)["loss"] for _ in range(EPOCHS)]
    finally:
        worker.close()
    assert in_one_batch == pytest.approx(exact, rel=ROUNDING)
    assert losses.first_apart(found, expected, losses.tolerance(BATCH_SIZE, IMAGES)) is None


@pytest.mark.parametrize(("name", "change"), [("numpy", {"lr": 0.02}), ("numpy", {"batch_size": 32})])
def test_another_training_is_told(name, change, little, expected):
    """Twice the learning rate, half the batch size: within three epochs the losses are apart."""
    epoch = entries.load_entry(name).start(replace(little, settings=replace(little.settings, **change)))
    found = {number: epoch() for number in range(EPOCHS)}
    assert losses.first_apart(found, expected, losses.tolerance(BATCH_SIZE, IMAGES)) is not None


def test_the_tolerance_grows_with_what_an_order_matters():
    """Nowhere below 3 %; twice that at half the batch size, or with a quarter of 1,000 images."""
    assert losses.tolerance(64, 60_000) == losses.tolerance(256, 1000) == losses.TOLERANCE
    assert losses.tolerance(32, 60_000) == losses.tolerance(64, 250) == 2 * losses.TOLERANCE


def test_losses_are_compared_epoch_by_epoch():
    """The first that is apart is named; rounds that one of the two lacks are passed over; NaN is apart."""
    reference = {0: 1.0, 1: 0.5, 2: 0.25}
    assert losses.first_apart({0: 1.029, 1: 0.486, 3: 9.0}, reference, 0.03) is None
    assert losses.first_apart({0: 1.0, 1: 0.52, 2: 9.0}, reference, 0.03) == 1
    assert losses.first_apart({0: math.nan}, reference, 0.03) == 0


# The worker


def test_an_epoch_is_timed_and_what_ran_unasked_is_told(little, tmp_path):
    """The CPU time between two epochs is that of something that goes on in the background."""
    little.save(tmp_path)
    worker = EntryWorker(tmp_path, "numpy")
    started = worker.handle({"do": "start"})
    assert started["versions"] == {"numpy": np.__version__}
    assert worker.handle({"do": "prepare"}) == {"seconds": 0.0, "note": ""}
    first = worker.handle({"do": "epoch"})
    assert 0 < first["seconds"] < 60
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    second = worker.handle({"do": "epoch"})
    assert second["idle_cpu_s"] >= 0.1 > first["idle_cpu_s"]
    assert second["loss"] < first["loss"]


# The run

# A worker whose entries do as their names in PLOT say; it is started in the place of the real one.
BROKEN = """
    import os, subprocess, sys, time
    from types import SimpleNamespace
    from benchmarks.peers import entries, entry_worker

    def epochs(name):
        count = 0
        def epoch():
            nonlocal count
            count += 1
            print("what a framework prints")
            if name == "numpy" and count == 2:
                time.sleep(1000)
            if name == "jax-step" and count == 2:
                sys.exit("the ice is thin")
            if name == "jax-scan" and count == 2:
                raise ValueError("a shape does not fit\\nand more")
            return 1 / count if name != "fabric" else 2 / count
        return epoch

    def start(name):
        if name == "ignite":
            raise RuntimeError("no fuse")
        if name == "skorch":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
            open(os.environ["CHILD"], "w").write(str(child.pid))
            time.sleep(1000)
        return epochs(name)

    entries.load_entry = lambda name: SimpleNamespace(NEEDS=("numpy",), USED="to break", start=lambda task: start(name))
    entry_worker.main(*sys.argv[1:])
"""


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Put the broken worker in the place of the real one, without a ruler; nothing is looked up as installed or not."""
    (tmp_path / "broken_worker.py").write_text(textwrap.dedent(BROKEN))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CHILD", str(tmp_path / "child"))
    monkeypatch.setattr(entry_process, "MODULE", "broken_worker")
    monkeypatch.setattr(run.PeersRun, "ruler", lambda self: None)
    monkeypatch.setattr(run, "missing", lambda needs: [])


@pytest.fixture
def measure(little, tmp_path):
    """Run a plan; return its lines, and what was said."""

    def go(*names, rounds=2, limit_s=30.0, write=lambda _: None):
        folder = tmp_path / "run"
        folder.mkdir()
        said = []
        plan = run.PeersPlan(names, rounds, threads=1, seed=0, limit_s=limit_s)
        made = run.PeersRun(plan, little, folder, write, said.append)
        try:
            made.run()
        finally:
            assert all(worker.process.poll() is not None for worker in made.workers.values())
        return made.lines, said

    return go


def of(lines, event):
    return [line for line in lines if line.get("event") == event]


def test_in_each_round_every_entry_trains_one_epoch(broken, measure):
    """The first ones as the entries are started, then in an order that changes from round to round."""
    lines, said = measure("reference", "resident", "fabric", rounds=6)
    assert lines[0]["task"]["images"] == IMAGES
    assert [line["entry"] for line in of(lines, "start")] == ["reference", "resident", "fabric"]
    orders = [[line["entry"] for line in of(lines, "epoch") if line["round"] == number] for number in range(1, 7)]
    assert all(sorted(order) == ["fabric", "reference", "resident"] for order in orders)
    assert len(set(map(tuple, orders))) > 1
    assert lines[-1]["why"] == "done"
    assert "round 6/6: " in said[-1]


@pytest.mark.slow
def test_what_fails_is_listed_and_the_others_go_on(broken, measure, tmp_path):
    """An entry that hangs, one whose process ends, one that raises, two that do not start; their own processes end."""
    names = ("reference", "ignite", "skorch", "numpy", "jax-step", "jax-scan")
    lines, said = measure(*names, rounds=2, limit_s=3.0)
    reasons = {line["entry"]: line["reason"] for line in of(lines, "failed")}
    assert reasons == {
        "ignite": "RuntimeError: no fuse",
        "skorch": "no answer for 3 s, the time limit, when asked for 'start'",
        "numpy": "no answer for 3 s, the time limit, when asked for 'epoch'",
        "jax-step": "its process ended while asked for 'epoch'; its last words: the ice is thin",
        "jax-scan": "ValueError: a shape does not fit",
    }
    assert len(of(lines, "failed")) == len(reasons)
    rounds = {name: [line["round"] for line in of(lines, "epoch") if line["entry"] == name] for name in names}
    failed = {"ignite": [], "skorch": [], "numpy": [0], "jax-step": [0], "jax-scan": [0]}
    assert rounds == {"reference": [0, 1, 2], **failed}
    assert "numpy stops: no answer for 3 s, the time limit, when asked for 'epoch'" in said
    text = tables.peers_markdown(outcome.outcome_of(lines))
    assert "- ignite did not run: RuntimeError: no fuse." in text
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 30  # a killed process takes a moment to be gone
    while alive(child) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive(child)


def test_what_is_not_installed_is_listed(broken, measure, monkeypatch):
    """And no process is started for it."""
    monkeypatch.setattr(run, "missing", lambda needs: [name for name in needs if name == "fastai"])
    lines, said = measure("reference", "fastai", rounds=1)
    (failed,) = of(lines, "failed")
    assert (failed["entry"], failed["reason"]) == ("fastai", "not installed: fastai")
    assert said[1] == "fastai stops: not installed: fastai"


def alive(pid):
    """Whether a process still runs; one that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_ctrl_c_keeps_what_there_is(broken, tmp_path, monkeypatch, capsys, digits):
    """The lines are in the file, the table is printed, and the processes have ended."""
    monkeypatch.setattr("mnist_loop.data.load_data", lambda where: digits)
    path = tmp_path / "peers.jsonl"

    def interrupt():
        end = time.monotonic() + 20
        while time.monotonic() < end and '"round": 1' not in (path.read_text() if path.exists() else ""):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    # In its second epoch numpy sleeps: the run can only end by the interruption.
    code = command.main(["--entries", "numpy", "--images", "64", "--threads", "1", "-o", str(path)])
    thread.join()
    assert code == command.INTERRUPTED
    shown = capsys.readouterr().out
    assert "- The run did not come to its end: interrupted." in shown
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[-1]["why"] == "interrupted"
    assert {line["entry"] for line in of(lines, "epoch")} == {"reference", "numpy"}
    assert tables.peers_markdown(outcome.read_outcome(path)) == shown
    assert not [one for one in psutil.Process().children(recursive=True) if "broken_worker" in " ".join(one.cmdline())]


def test_a_full_disk_ends_the_run_with_what_there_is(broken, measure):
    """The error is the user's to know; nothing stays behind."""
    written = []

    def write(line):
        written.append(line)
        if len(written) > 2:
            raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        measure("reference", rounds=1, write=write)


# What is stored, and the table


def stored(*, rounds=6, end="done", losses_of=None, seconds=None, failed=()):
    """The lines of a run in which each entry takes the same seconds in each round, but for 1 % in every second one."""
    seconds = seconds or {"reference": 4.0, "compiled": 0.1, "jax-scan": 0.4}
    lines = [
        {
            run.KIND: run.SCHEMA,
            "plan": {"threads": 2},
            "task": {"images": 60_000, "batch_size": 64, "data": "MNIST"},
            "machine": {"cpu": "A CPU", "logical_cores": 2},
            "software": {"torch": "2.15.0", "python": "3.13.0"},
        },
        {"event": "ruler", "gemm": 150e9},
    ]
    for name in seconds:
        start = {"seconds": 1.5, "prepare_s": 20.0 * (name == "compiled"), "versions": {"torch": "2.15.0"}}
        note = "compiled 13 steps" if name == "compiled" else ""
        lines.append({"event": "start", "entry": name, "used": "so", "note": note, **start})
        for number in range(rounds + 1):
            loss = (losses_of or {}).get(name, 1.0) / (number + 1)
            took = seconds[name] * (1.01 if number % 2 else 1.0) * (3 if number == 0 else 1)
            line = {"event": "epoch", "entry": name, "round": number, "seconds": took, "loss": loss, "idle_cpu_s": 0.0}
            lines.append(line)
    lines += [{"event": "failed", "entry": name, "round": 0, "reason": "not installed: it"} for name in failed]
    return [*lines, {"event": "end", "why": end}]


def rows(text):
    return [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]


def test_the_table_is_sorted_by_the_ratio():
    """The fastest first; the rates are of the median epoch, the first one is apart."""
    text = tables.peers_markdown(outcome.outcome_of(stored()))
    _, compiled, scan, reference, *_ = rows(text)
    assert compiled == [
        "| compiled",
        "torch 2.15.0",
        "so",
        "597k",
        "40 [40, 40]",
        "1.5 s + 20 s",
        "300 ms",
        "0.1429 |",
    ]
    assert scan[4] == "10 [10, 10]"
    assert (reference[0], reference[4]) == ("| reference", "1")
    assert "- compiled: compiled 13 steps." in text
    assert "- Large matrix products reach 150 GFLOP/s." in text
    assert "images/s: median of 6 epochs" in text


def test_the_ratio_is_paired_by_round():
    """A machine that is twice as slow in some rounds changes the times, not the ratio."""
    lines = stored(rounds=8)
    for line in lines:
        if line.get("event") == "epoch" and line["round"] in (2, 3, 5):
            line["seconds"] *= 2
    found = outcome.outcome_of(lines).entries
    ratio = outcome.times_as_fast(found["compiled"], found["reference"])
    assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((40, 40, 40))
    assert ratio.rounds == 8


def test_the_ratios_that_are_sought():
    """Of Lightning and Fabric the faster one counts; what was not measured is left out."""
    seconds = {"reference": 4.0, "resident": 0.5, "compiled": 0.1, "lightning-memory": 0.9, "fabric": 0.6}
    text = tables.peers_markdown(outcome.outcome_of(stored(seconds=seconds)))
    sought = text.split("### What is sought")[1]
    assert [row[0] for row in rows(sought)[1:]] == [
        "| compiled / reference",
        "| resident / reference",
        "| compiled / fabric",
    ]
    assert [row[1] for row in rows(sought)[1:]] == ["40 [40, 40] |", "8.000 [8.000, 8.000] |", "6.000 [6.000, 6.000] |"]


def test_what_trains_something_else_gets_no_ratio():
    """It is last in the table, with both losses beneath, and in no ratio that is sought."""
    found = outcome.outcome_of(stored(losses_of={"compiled": 1.04}))
    assert found.entries["compiled"].apart == 0
    text = tables.peers_markdown(found)
    assert [row[0] for row in rows(text)[1:4]] == ["| jax-scan", "| reference", "| compiled"]
    assert rows(text)[3][4] == "trains something else"
    assert (
        "- compiled trains something else: its loss of epoch 1 is 1.0400, that of the reference 1.0000; "
        "3% may be due to another order of the images."
    ) in text
    assert "What is sought" not in text


def test_without_the_reference_there_are_no_ratios():
    """It is said, and the rates are shown."""
    text = tables.peers_markdown(outcome.outcome_of(stored(seconds={"numpy": 1.0}, failed=["reference"])))
    assert "- The reference was not measured: no ratios." in text
    assert "- reference did not run: not installed: it." in text
    assert rows(text)[1][3:5] == ["59.7k", "-"]


def test_work_in_the_turns_of_others_is_told():
    """From 1 % of their time on."""
    lines = stored()
    for line in lines:
        if line.get("entry") == "jax-scan" and line["event"] == "epoch":
            line["idle_cpu_s"] = 0.5
    text = tables.peers_markdown(outcome.outcome_of(lines))
    assert re.search(r"- jax-scan worked in the others' turns: for \d+\.\d% of them\.", text)
    assert "compiled worked" not in text


def test_a_line_that_was_cut_short_is_passed_over(tmp_path):
    """A killed run is shown as far as it came."""
    path = tmp_path / "peers.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in stored())[:-10])
    text = tables.peers_markdown(outcome.read_outcome(path))
    assert "- The run did not come to its end: it was killed." in text
    assert rows(text)[1][0] == "| compiled"


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read"), ("{\n", "damaged"), ('{"a": 1}\n', "not of this version"), ("", "not of this version")],
)
def test_what_is_no_result_is_refused(content, says, tmp_path):
    """In one sentence, with what was expected."""
    path = tmp_path / "other.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=f"{says}.*expected a result that python -m benchmarks.peers"):
        outcome.read_outcome(path)


# The command


def test_the_command_shows_what_is_stored(tmp_path, capsys):
    """Without a run."""
    path = tmp_path / "peers.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in stored()))
    assert command.main(["--show", str(path)]) == 0
    assert capsys.readouterr().out == tables.peers_markdown(outcome.outcome_of(stored()))


def test_the_command_never_writes_over_a_result(tmp_path, monkeypatch, capsys, digits):
    """What is there stays."""
    monkeypatch.setattr("mnist_loop.data.load_data", lambda where: digits)
    monkeypatch.setattr(run.PeersRun, "run", lambda self: pytest.fail("it went on"))
    path = tmp_path / "peers.jsonl"
    path.write_text("mine")
    assert command.main(["-o", str(path)]) == 2
    assert f"{path}: is there already" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_the_reference_is_always_among_the_entries(capsys):
    """In the order of the list; an unknown name is refused with those that there are."""
    asked = command._parser().parse_args(["--entries", "numpy,resident"])
    assert asked.entries == ("reference", "resident", "numpy")
    with pytest.raises(SystemExit):
        command._parser().parse_args(["--entries", "caffe"])
    assert "'caffe' found, expected reference, resident" in capsys.readouterr().err
