"""One of two processes that torchrun starts: steps of one worker, of two, of two that wait longer; and all-reduces.

The arms take turns, round by round. The worker that a step of one worker does not need waits in a barrier.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as processes
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mnist_loop.model import MLP

LR = 0.01
CLOCK_DIGITS = 7  # of a second: a tenth of what reading the clock takes
# How far two sums of the same gradients may be apart after some steps, relative to the norm: in each step a sum of up
# to 784 terms in another order differs by some 28 roundings.
ROUNDINGS = 2**6 * 2**-24


def measure(asked: dict[str, list[float]]) -> dict[str, list[list[float]]]:
    """Return the seconds of a step by arm, and of an all-reduce by size, a list a round."""
    torch.set_num_threads(1)
    rank, count = processes.get_rank(), processes.get_world_size()
    alone = processes.new_group([0])
    shares, steps = list(map(int, asked["shares"])), int(asked["steps"][0])
    found: dict[str, list[list[float]]] = {}
    for _ in range(int(asked["rounds"][0])):
        for share in shares:
            for workers in (1, 2):
                for wait in asked["waits"] if workers == 2 else [0.0]:
                    processes.barrier()
                    if rank < workers:
                        group = alone if workers == 1 else processes.group.WORLD
                        seconds = _steps(share, steps, rank, workers, group, wait)
                        found.setdefault(f"{workers} {share} {wait}", []).append(seconds)
        for size in map(int, asked["sizes"]):
            processes.barrier()
            values = torch.ones(size // 4)
            found.setdefault(f"all-reduce {size}", []).append(
                [_timed(lambda values=values: processes.all_reduce(values.fill_(1))) for _ in range(steps)]  # type: ignore[misc]
            )
            assert bool((values == count).all())
    processes.barrier()
    return found


def _steps(share: int, steps: int, rank: int, workers: int, group: object, wait: float) -> list[float]:
    """Train on a share of each batch; check the result against the same batches in one process."""
    torch.manual_seed(0)
    model, whole = MLP(), MLP()
    whole.load_state_dict(model.state_dict())
    replica = DistributedDataParallel(model, process_group=group)
    if wait:
        replica.register_comm_hook(group, _waiting(wait, workers))
    images, labels = torch.rand(workers * share, 784), torch.randint(10, (workers * share,))
    own = slice(rank, None, workers)
    step = _step(replica, images[own].contiguous(), labels[own].contiguous())
    step()
    seconds = [_timed(step) for _ in range(steps)]
    check = _step(whole, images, labels)
    for _ in range(1 + steps):
        check()
    for one, other in zip(model.parameters(), whole.parameters(), strict=True):
        apart = (one - other).detach().norm() / other.detach().norm()
        assert apart <= ROUNDINGS * (1 + steps), f"parameters differ by {apart:.1e}"
    return seconds


def _step(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizer, loss_fn = torch.optim.SGD(model.parameters(), lr=LR), nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()

    return step


def _waiting(wait: float, workers: int) -> Callable[..., object]:
    """Return DDP's exchange of gradients with a wait after it, as a slower network's."""

    def exchange(group, bucket):  # DDP takes no annotations that are strings
        values = bucket.buffer()
        processes.all_reduce(values, group=group)
        time.sleep(wait)
        done = torch.futures.Future()
        done.set_result(values.div_(workers))
        return done

    return exchange


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, CLOCK_DIGITS)


if __name__ == "__main__":
    processes.init_process_group("gloo")
    result = measure(json.loads(sys.argv[2]))
    if processes.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(result), "utf-8")
    processes.destroy_process_group()
