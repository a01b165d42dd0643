"""Evaluation alone: forward, loss and accuracy, on batches that wait on the device."""

from mnist_loop.bench.workloads import EvaluationWorkload


def test_evaluation(measure, batch_size, device):
    """Images per second of `evaluate` when the data cost nothing."""
    measure(EvaluationWorkload, batch_size, device)
