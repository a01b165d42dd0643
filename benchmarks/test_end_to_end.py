"""Input pipeline and training step by turns, as in the lesson."""

from mnist_loop.bench.workloads import EndToEnd


def test_end_to_end(measure, batch_size, device):
    """Images per second of `train_one_epoch` on a part of an epoch."""
    measure(EndToEnd, batch_size, device)
