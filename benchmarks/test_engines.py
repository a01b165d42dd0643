"""The engines: each trains a short epoch, with its own way to the images."""

from mnist_loop.bench.workloads import Epoch


def test_epoch(measure, engine, batch_size, device):
    """Images per second of an engine's loader and loop; what it prepares is a number of its own."""
    measure(Epoch, batch_size, device, engine)
