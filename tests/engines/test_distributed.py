"""The distributed engine: several processes, each with its share of a batch, are one process on the whole of it."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from mnist_loop.cli import main
from mnist_loop.engines import contract, distributed, reference
from mnist_loop.model import MLP, ProbeNet
from tests.engines.test_engines import SAME, generators  # noqa: F401  # a fixture of every test here

PROCESSES = 2
WAIT_S = 240

WORKER = """
import sys
import torch
import torch.distributed as processes
from tests.engines.test_distributed import trained
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
torch.save({"found": found, "refused": refused}, f"{sys.argv[1]}/{processes.get_rank()}.pt")
"""


class Batches:
    """Made-up images, in batches of 7 and a last one of a single image: shares of 4 and 3, and of 1 and none."""

    def __iter__(self):
        generator = torch.Generator().manual_seed(1)
        images = torch.rand(22, 1, 28, 28, generator=generator, dtype=torch.float64)
        labels = torch.randint(10, (22,), generator=generator)
        return iter(list(zip(images.split(7), labels.split(7), strict=True)))


def trained(engine, optimizer, epochs):
    """Train; return parameters, losses of the epochs, losses of the batches, and what evaluating gives."""
    torch.manual_seed(0)
    model = MLP(hidden_size=8).double()
    made = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}[optimizer](model.parameters(), lr=0.01)
    reported, loss_fn = [], nn.CrossEntropyLoss()
    engine.prepare(model, None, loss_fn, made, "cpu")
    losses = [
        engine.train_one_epoch(
            model, Batches(), loss_fn, made, "cpu", lambda batch, loss: reported.append((batch, loss.item()))
        )
        for _ in range(epochs)
    ]
    few = [(images[:1], labels[:1]) for images, labels in Batches()]
    evaluations = [engine.evaluate(model, loader, loss_fn, "cpu") for loader in (Batches(), few)]
    return (
        [parameter.detach() for parameter in model.parameters()],
        losses,
        reported,
        [(one.loss, one.accuracy) for one in evaluations],
    )


def torchrun(*arguments, cwd, timeout=WAIT_S):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )


needs_gloo = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


@needs_gloo
def test_several_processes_are_one(request, tmp_path):
    """Same parameters, losses and metrics in each, to 1e-12: uneven shares and an empty one included."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    root = request.config.rootpath
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(root))
        done = torchrun(script, tmp_path, cwd=root)
    assert done.returncode == 0, done.stderr
    ends = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
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


@needs_gloo
def test_the_command_line_speaks_once(request, tmp_path, few_images):
    """One process prints and saves for all, and the history is that of one process."""
    options = ["--data", few_images, "--device", "cpu", "--epochs", 2, "--threads", 1, "--json"]
    save = tmp_path / "run.pt"
    done = torchrun(
        "-m", "mnist_loop", "train", "--engine", "distributed", *options, "--save", save, cwd=request.config.rootpath
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert done.stderr.count("engine distributed: 2 processes, by gloo\n") == 1
    assert save.exists()
    single = subprocess.run(
        [sys.executable, "-m", "mnist_loop", "train", *map(str, options)],
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
        check=True,
    )
    for one, other in zip(result["history"], json.loads(single.stdout)["history"], strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)  # float32, in another order
        assert one["test_loss"] == pytest.approx(other["test_loss"], rel=1e-5)


@pytest.fixture
def few_images(tmp_path, digits):
    """The first images of the stand-in, as the four files."""
    from mnist_loop.data import idx

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, names in (
        (digits.train, ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")),
        (digits.test, ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")),
    ):
        arrays = split.data[:300].numpy(), split.targets[:300].numpy().astype("uint8")
        for name, array in zip(names, arrays, strict=True):
            (raw / name).write_bytes(idx.encode(array))
    return tmp_path


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
