"""The training step alone: zero_grad, forward, loss, backward, step, on batches in the device's memory."""

from mnist_loop.bench.workloads import StepWorkload


def test_step(measure, batch_size, device):
    """Images per second of `train_one_epoch` without the cost of the data."""
    measure(StepWorkload, batch_size, device)
