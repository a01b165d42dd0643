"""Whether `native` trains linear layers faster than compiled steps can: a timed trial, before anything is compiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise

import torch
from torch import nn

from mnist_loop.engines import native, products, trials
from mnist_loop.engines.resident import ResidentLoader

IMAGES = 2048  # in a trial of `native`, or two batches: some milliseconds
FEWEST_ROUNDS, SECONDS = 3, 1.0  # more rounds, up to as many as in other trials, only as long as they take no longer
# Compiled steps take at least as long as their products and making floats of bytes. On one thread of an AMD EPYC they
# take 1.13 to 2.2 times as long as the products alone, with one to three hidden layers of up to 512 units.
BESIDE_PRODUCTS = 1.1


@cache
def native_is_faster(widths: tuple[int, ...], batch_size: int, momentum: float) -> bool:
    """Time steps of `native` and the products of a compiled step by turns, on one thread, in the time of the CPU.

    That leaves out when another program ran. With more threads `native` waits less often than a step of calls does.

    Args:
        widths: inputs and outputs of the layers.
        batch_size: images in a batch.
        momentum: the optimizer's.
    """
    with torch.random.fork_rng(devices=[]):
        layers = [layer for sides in pairwise(widths) for layer in (nn.Linear(*sides), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    steps = max(2, IMAGES // batch_size)
    images = torch.zeros(steps * batch_size, widths[0], dtype=torch.uint8)
    loader = ResidentLoader(images, torch.zeros(len(images), dtype=torch.int64), batch_size, shuffle=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=momentum)
    train = partial(native.train_one_epoch, model, loader, nn.CrossEntropyLoss(), optimizer, "cpu")
    rounds: list[list[float]] = []
    began = time.perf_counter()
    with trials.threads(1):
        works: list[Callable[[], object]] = [train, images[:batch_size].float, *products.of_step(widths, batch_size)]
        while len(rounds) < FEWEST_ROUNDS or (len(rounds) < trials.COUNT and time.perf_counter() - began < SECONDS):
            rounds.append([trials.seconds(one, time.thread_time) for one in works])
    # Disturbances only slow down, so the smallest time counts.
    of_native, *of_steps = map(min, zip(*rounds, strict=True))
    return bool(of_native <= BESIDE_PRODUCTS * steps * sum(of_steps))
