"""Evaluation alone: forward, loss and accuracy, on batches in the device's memory."""

from mnist_loop.bench.workloads import EvaluationWorkload


def test_evaluation(measure, batch_size, device):
    """Images per second of `evaluate` without the cost of the data."""
    measure(EvaluationWorkload, batch_size, device)
