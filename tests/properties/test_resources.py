"""Resources, beyond the laws: memory that does not grow, and values that are read once an epoch."""

import gc

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.cases import cases


class CountReads(TorchDispatchMode):
    """Counts how often a tensor's value is read into Python (`.item()`, `float()`), which waits for the device."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.reads += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def tensors_alive():
    # type() and not isinstance(), which asks some lazy objects for their class and so wakes their warnings.
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("task", ["train", "evaluate"])
def test_memory_does_not_grow_with_the_steps(loop, models, device, task):
    """The number of tensors alive is the same at step 10 and at step 50.

    The law graph-leak is of the graphs of training; this is of all tensors, and of evaluation too.
    """
    counts = {}

    def batches():
        for step in range(51):
            if step in (10, 50):
                gc.collect()
                counts[step] = tensors_alive()
            yield torch.zeros(2, 8), torch.zeros(2, dtype=torch.long)

    with torch.random.fork_rng():  # Dropout draws
        model = models.ProbeNet(8, 4, 3).to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        if task == "train":
            loop.train_one_epoch(model, batches(), nn.CrossEntropyLoss(), optimizer, device)
        else:
            loop.evaluate(model, batches(), nn.CrossEntropyLoss(), device)
    assert counts[50] == counts[10], f"{counts[10]} tensors at step 10, {counts[50]} at step 50"


@given(case=cases)
def test_no_step_reads_a_value_from_the_device(loop, case):
    """Values are read once an epoch for the result, however many steps it has: to read is to wait for the device.

    The law sync-every-step is of training, and of reads in each of its steps; this one counts all, and in evaluation.
    """
    model = case.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=case.lr)
    with CountReads() as training:
        loop.train_one_epoch(model, case.loader(), nn.CrossEntropyLoss(), optimizer, "cpu")
    with CountReads() as empty:
        for _ in case.loader():  # what the DataLoader itself reads
            pass
    assert training.reads - empty.reads == 1, f"{training.reads - empty.reads} reads in {case.steps} steps"
    with CountReads() as evaluation:
        loop.evaluate(model, case.loader(), nn.CrossEntropyLoss(), "cpu")
    assert evaluation.reads - empty.reads == 2, f"{evaluation.reads - empty.reads} reads in {case.steps} steps"
