"""The training step alone: zero_grad, forward, loss, backward, step, on batches that wait on the device."""

from mnist_loop.bench.workloads import StepWorkload


def test_step(measure, batch_size, device):
    """Images per second of `train_one_epoch` when the data cost nothing."""
    measure(StepWorkload, batch_size, device)
