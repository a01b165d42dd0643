"""The engines: a short epoch with each engine's own loader and loop. Measured with ``--engines`` alone."""

from mnist_loop.bench.workloads import EpochWorkload


def test_epoch(measure, engine, batch_size, device):
    """Images per second of an engine's loader and loop; its preparation is timed apart."""
    measure(EpochWorkload, batch_size, device, engine)
