"""Input pipeline and training step in turn, as the lesson has them."""

from mnist_loop.bench.workloads import EndToEnd


def test_end_to_end(measure, batch_size, device):
    """Images per second of `train_one_epoch` on a slice of a real epoch."""
    measure(EndToEnd, batch_size, device)
