"""The input pipeline alone: DataLoader, PIL, ToTensor, Normalize, and the copy to the device."""

from mnist_loop.bench.workloads import InputPipeline


def test_input_pipeline(measure, batch_size, device):
    """Images per second that the lesson's DataLoader brings to the device, without any work on them."""
    measure(InputPipeline, batch_size, device)
