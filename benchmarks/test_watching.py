"""Watching: the time of a training that is watched, as `mnist-loop check` does it, to that of the same one unwatched.

Blocks with and without the hooks take turns in one process, A B B A. Each block is a whole short training, as a script
would run it, so that the close look at its first steps is in the figure. The numbers are in ``extra_info``.
"""

import time
from datetime import datetime, timezone

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from mnist_loop import MLP
from mnist_loop.bench import machine
from mnist_loop.loop import train_one_epoch
from mnist_loop.watching.hooks import installed
from mnist_loop.watching.watcher import Watcher

from .quartiles import quartiles

# Not in the default sweep: run it with -m slow.
pytestmark = pytest.mark.slow

PAIRS = 20
CPU = torch.device("cpu")


def lesson(data, steps):
    """The lesson: images from the disk's format, prepared one by one by a DataLoader."""
    images = Subset(data.train, range(64 * steps))
    return MLP(), DataLoader(images, 64, shuffle=True, generator=torch.Generator().manual_seed(0))


def in_memory(_, steps):
    """The lesson's model on one batch that is in memory: the smallest step that anybody trains."""
    batch = (torch.randn(64, 784), torch.randint(0, 10, (64,)))
    return MLP(), [batch] * steps


def convolutions(_, steps):
    """A small convolutional net with BatchNorm, on one batch that is in memory."""
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 12 * 12, 10),
    )  # fmt: skip
    batch = (torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,)))
    return net, [batch] * steps


WORK = {"lesson": (lesson, 468), "in memory": (in_memory, 2000), "convolutions": (convolutions, 100)}


@pytest.mark.parametrize("name", WORK)
def test_watching(benchmark, data, threads, name):
    """The ratio of the two times, pair by pair; the parameters end bitwise the same."""
    make, steps = WORK[name]
    steps = 4 if benchmark.disabled else steps
    rounds = []

    def run():
        start = datetime.now(timezone.utc).isoformat()
        seconds, ends = {False: 0.0, True: 0.0}, []
        for watched in (False, True, True, False):
            taken, end = _block(make, data, steps, watched)
            seconds[watched] += taken / 2
            ends.append(end)
        took = {"seconds": 2 * sum(seconds.values()), "bare_s": seconds[False], "watched_s": seconds[True]}
        rounds.append({"start": start, **took})
        assert all(torch.equal(one, other) for end in ends for one, other in zip(end, ends[0], strict=True))

    benchmark.pedantic(run, rounds=1 if benchmark.disabled else PAIRS, warmup_rounds=0 if benchmark.disabled else 1)
    benchmark.extra_info |= {
        "device": "cpu",
        "threads": threads,
        "data": data.name if make is lesson else "made up",
        "state": machine.current_state(),
        "steps": steps,
        "watched_to_bare": quartiles([pair["watched_s"] / pair["bare_s"] for pair in rounds]),
        "rounds": rounds,
    }


def _block(make, data, steps, watched):
    """Train once; return the seconds and the parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, batches = make(data, steps)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        loss_fn = nn.CrossEntropyLoss()
        if not watched:
            seconds = _seconds(model, batches, loss_fn, optimizer)
        else:
            with installed(Watcher()):
                seconds = _seconds(model, batches, loss_fn, optimizer)
    return seconds, [parameter.detach() for parameter in model.parameters()]


def _seconds(model, batches, loss_fn, optimizer):
    start = time.perf_counter()
    train_one_epoch(model, batches, loss_fn, optimizer, CPU)
    return time.perf_counter() - start
