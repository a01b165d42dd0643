"""Time to accuracy: the lesson from its first weights to 92 % of the test images. Run it with ``-m slow``."""

import pytest
import torch

from mnist_loop.bench.accuracy import time_to_accuracy


@pytest.mark.slow
@pytest.mark.usefixtures("threads")
def test_time_to_accuracy(benchmark, data, device):
    """Seconds of training, and apart from them of evaluation, until the lesson's test accuracy is 0.92."""
    benchmark.extra_info |= benchmark.pedantic(time_to_accuracy, args=(data, torch.device(device)))
