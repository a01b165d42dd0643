"""The engines: each trains a short epoch, with its own way to the images."""

from mnist_loop.bench.workloads import EpochWorkload


def test_epoch(measure, engine, batch_size, device):
    """Images per second of an engine's loader and loop; what it prepares is a number of its own."""
    measure(EpochWorkload, batch_size, device, engine)
