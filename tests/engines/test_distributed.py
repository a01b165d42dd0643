"""The distributed engine: several processes, each with its share of a batch, are one process on the whole of it."""

import json
import os
import subprocess
import sys

import pytest
import torch

from mnist_loop.cli import main
from mnist_loop.data import idx
from mnist_loop.engines import contract, distributed, reference
from mnist_loop.model import MLP, ProbeNet
from tests.engines.test_engines import SAME, generators  # noqa: F401  # a fixture of every test here
from tests.engines.training_in_shares import trained

PROCESSES = 2
WAIT_S = 240

WORKER = """
import contextlib
import sys
import torch
import torch.distributed as processes
from tests.engines.training_in_shares import trained
from mnist_loop.cli import main
from mnist_loop.engines import distributed
from mnist_loop.engines.contract import Unsuitable
from mnist_loop.model import ProbeNet
from torch import nn

found = {name: trained(distributed, name, 7) for name in ("SGD", "Adam")}
refused = []
for model in (ProbeNet(), nn.Sequential(nn.Linear(784, 10), nn.Dropout(0.5))):
    try:
        distributed.prepare(model, None, None, torch.optim.SGD(model.parameters(), lr=1.0), "cpu")
    except Unsuitable as error:
        refused.append(str(error))
folder, rank = sys.argv[1], processes.get_rank()
torch.save({"found": found, "refused": refused}, f"{folder}/{rank}.pt")
with open(f"{folder}/{rank}.out", "w") as out, open(f"{folder}/{rank}.err", "w") as err:
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["train", "--engine", "distributed", *sys.argv[2:], "--save", f"{folder}/run.pt"])
sys.exit(code)
"""


needs_gloo = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


@pytest.fixture(scope="module")
def few_images(tmp_path_factory, digits):
    """The first images of the stand-in, as the four files."""
    folder = tmp_path_factory.mktemp("few_images")
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, names in (
        (digits.train, ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")),
        (digits.test, ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")),
    ):
        arrays = split.data[:300].numpy(), split.targets[:300].numpy().astype("uint8")
        for name, array in zip(names, arrays, strict=True):
            (raw / name).write_bytes(idx.encode(array))
    return folder


@pytest.fixture(scope="module")
def options(few_images):
    """A short training on the command line."""
    return ["--data", str(few_images), "--device", "cpu", "--epochs", "2", "--threads", "1", "--json"]


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory, options):
    """Where two processes, started by torchrun once for all tests, wrote what they found."""
    folder = tmp_path_factory.mktemp("torchrun")
    script = folder / "worker.py"
    script.write_text(WORKER)
    root = str(request.config.rootpath)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
    done = subprocess.run(
        [*command, str(script), str(folder), *options],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
        timeout=WAIT_S,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@needs_gloo
def test_several_processes_are_one(folder):
    """Same parameters, losses and metrics in each, to 1e-12: uneven shares and an empty one included."""
    ends = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    for optimizer in ("SGD", "Adam"):
        parameters, losses, reported, evaluations = trained(reference, optimizer, 7)
        for end in ends:
            own = end["found"][optimizer]
            for one, other in zip(own[0], parameters, strict=True):
                assert float((one - other).norm()) <= SAME * float(other.norm())
            assert own[1] == pytest.approx(losses, rel=SAME)
            assert [batch for batch, _ in own[2]] == [batch for batch, _ in reported]
            assert [loss for _, loss in own[2]] == pytest.approx([loss for _, loss in reported], rel=SAME)
            for one, other in zip(own[3], evaluations, strict=True):
                assert one == pytest.approx(other, rel=SAME)
        for one, other in zip(ends[0]["found"][optimizer][0], ends[1]["found"][optimizer][0], strict=True):
            assert torch.equal(one, other)
    for end in ends:
        batch_norm, dropout = end["refused"]
        assert batch_norm.startswith("engine distributed: BatchNorm would see one process's share of a batch alone")
        assert dropout.startswith("engine distributed: Dropout would draw other masks than one process does")


@pytest.mark.slow
@needs_gloo
def test_the_command_line_speaks_once(folder, options, capsys):
    """One process prints and saves for all, and the history is that of one process."""
    first, second = (((folder / f"{rank}.out").read_text(), (folder / f"{rank}.err").read_text()) for rank in (0, 1))
    assert second == ("", "")
    assert "engine distributed: 2 processes, by gloo\n" in first[1]
    assert (folder / "run.pt").exists()
    assert main(["train", *options]) == 0
    alone = json.loads(capsys.readouterr().out)
    for one, other in zip(json.loads(first[0])["history"], alone["history"], strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)  # float32, in another order
        assert one["test_loss"] == pytest.approx(other["test_loss"], rel=1e-5)


def test_without_torchrun_it_says_how(few_images, capsys):
    """One sentence, exit code 2."""
    assert main(["train", "--data", str(few_images), "--device", "cpu", "--engine", "distributed"]) == 2
    assert (
        "engine distributed: not started by torchrun, expected torchrun --nproc-per-node 2" in capsys.readouterr().err
    )
    model = MLP(hidden_size=2)
    with pytest.raises(contract.Unsuitable, match="not started by torchrun"):
        distributed.prepare(model, None, None, torch.optim.SGD(model.parameters(), lr=1.0), "cpu")


def test_one_process_may_hold_any_model():
    """What a share of a batch would change is refused where there are shares alone."""
    with pytest.raises(contract.Unsuitable, match="BatchNorm"):
        distributed._check(ProbeNet())
    distributed._check(MLP(hidden_size=2))
