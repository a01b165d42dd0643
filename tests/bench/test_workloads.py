"""Workloads: what is timed is the lesson's training, and a wrong result never counts."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnist_loop.bench import workloads
from mnist_loop.bench.workloads import (
    EndToEnd,
    EpochWorkload,
    EvaluationWorkload,
    InputPipeline,
    StepWorkload,
    WrongResult,
    loss_tolerance,
)
from mnist_loop.data import Data, normalisation
from mnist_loop.engines import compiled, contract, handwritten, resident
from mnist_loop.loop import train_one_epoch
from tests.cases import seeds

CPU = torch.device("cpu")
KINDS = [InputPipeline, StepWorkload, EndToEnd, EvaluationWorkload]


class Images(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Random images in the form of torchvision's MNIST: ``data`` and ``targets``, and items through PIL."""

    def __init__(self, size, seed):
        generator = torch.Generator().manual_seed(seed)
        self.data = torch.randint(256, (size, 28, 28), generator=generator, dtype=torch.uint8)
        self.targets = torch.randint(10, (size,), generator=generator)
        self.transform = normalisation()

    def __len__(self):
        return len(self.data)

    def __getitem__(self, position):
        from PIL import Image

        return self.transform(Image.fromarray(self.data[position].numpy())), int(self.targets[position])


def small_data(size=48, seed=0):
    return Data("random", Path(), Images(size, seed), Images(8, seed + 1), "")


@pytest.mark.parametrize("kind", KINDS)
@given(size=st.integers(1, 40), batch_size=st.integers(1, 50), steps=st.integers(1, 5), seed=seeds)
def test_a_workload_returns_what_it_must(kind, size, batch_size, steps, seed):
    """On any data, batch size and number of steps, what is timed agrees with what is computed by other means."""
    workload = kind(small_data(size, seed), batch_size, CPU)
    steps = min(steps, workload.most_steps)
    workload.check(workload.prepare(steps)(), workload.expected(steps))


@pytest.mark.parametrize("kind", [StepWorkload, EvaluationWorkload])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_waits_in_memory_may_have_another_dtype(kind, dtype):
    """Images, model and tolerance are of the dtype that was asked for."""
    workload = kind(small_data(), 8, CPU, dtype)
    assert workload.waiting[0][0].dtype == dtype
    workload.check(workload.prepare(3)(), workload.expected(3))
    with pytest.raises(WrongResult):
        workload.check(workload.expected(3) * (1 + 2 * loss_tolerance(CPU, dtype)), workload.expected(3))


@pytest.mark.parametrize("kind", KINDS)
def test_each_round_starts_from_the_same_state(kind):
    """Two rounds give bitwise the same result: nothing of the first is left for the second."""
    workload = kind(small_data(), 8, CPU)
    first, second = workload.prepare(4)(), workload.prepare(4)()
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_the_input_pipeline_must_bring_the_right_images():
    """A batch with one wrong pixel, or two labels exchanged, is refused."""
    workload = InputPipeline(small_data(), 8, CPU)
    images, labels = workload.prepare(2)()
    expected = workload.expected(2)
    dirty = images.clone()
    dirty[3, 0, 14, 14] += 2 / 255
    for wrong in ((dirty, labels), (images, labels.flip(0))):
        with pytest.raises(WrongResult, match="input pipeline: the last batch is not made of"):
            workload.check(wrong, expected)


@pytest.mark.parametrize("kind", [StepWorkload, EndToEnd])
def test_a_training_that_skips_a_step_does_not_count(kind, monkeypatch):
    """A fast but wrong loop, here one that skips every fourth batch's step, is refused with both losses."""

    def skipping(model, batches, loss_fn, optimizer, device):
        step, optimizer.step = optimizer.step, lambda: None if next(count) % 4 == 0 else step()
        return train_one_epoch(model, batches, loss_fn, optimizer, device)

    count = iter(range(1000))
    workload = kind(small_data(), 8, CPU)
    expected = workload.expected(6)
    monkeypatch.setattr(workloads, "train_one_epoch", skipping)
    found = workload.prepare(6)()
    with pytest.raises(WrongResult, match=r"the loss is \d.*, but should be \d.* to within \d"):
        workload.check(found, expected)


def test_a_loss_that_is_not_a_number_does_not_count():
    """NaN compares with nothing, and must not slip through."""
    workload = StepWorkload(small_data(), 8, CPU)
    with pytest.raises(WrongResult, match="the loss is nan"):
        workload.check(float("nan"), 2.3)


def test_a_sign_that_rounding_changes_is_no_wrong_result(monkeypatch):
    """In a long training it may differ by a thousandth; one that is wrong from the start is refused all the same."""
    workload = StepWorkload(small_data(), 8, CPU)
    few, many = workloads.STEPS_OF_EQUAL_SIGNS, workloads.STEPS_OF_EQUAL_SIGNS + 1
    workload.check(1.0005, 1.0, many)
    for found, steps in ((1.0005, few), (1.002, many)):
        with pytest.raises(WrongResult, match="the loss is"):
            workload.check(found, 1.0, steps)
    assert EvaluationWorkload(small_data(), 8, CPU).tolerance(many) == workload.tolerance(few)
    workload.check_first(many)
    monkeypatch.setattr(workload, "expected", lambda steps: 1.0005 * StepWorkload.expected(workload, steps))
    with pytest.raises(WrongResult, match="the loss is"):
        workload.check_first(many)


def test_the_tolerance_is_that_of_the_arithmetic():
    """It is 4 sqrt(784) unit roundoffs: of the dtype, and of TF32 where CUDA may use it for float32."""
    assert loss_tolerance(CPU, torch.float64) == 4 * 28 * 2**-53
    exact = loss_tolerance(torch.device("cuda"))
    assert exact == loss_tolerance(CPU) == 4 * 28 * 2**-24
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert loss_tolerance(torch.device("cuda")) == 4 * 28 * 2**-11
        assert loss_tolerance(CPU) == exact
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def test_measuring_leaves_the_generators_alone():
    """Building the lesson's model draws from torch's generator, and puts it back."""
    before = torch.get_rng_state()
    StepWorkload(small_data(), 8, CPU).prepare(1)()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [InputPipeline, EndToEnd])
def test_a_block_is_no_longer_than_an_epoch(kind):
    """Where images come from the loader, a block has at most one epoch's full batches, and at least one batch."""
    assert kind(small_data(48), 10, CPU).most_steps == 4
    assert kind(small_data(48), 100, CPU).most_steps == 1


# Engines


@pytest.mark.parametrize("engine", ["resident", "handwritten", "native"])
@pytest.mark.parametrize("kind", [*KINDS, EpochWorkload])
@given(size=st.integers(1, 40), batch_size=st.integers(1, 50), steps=st.integers(1, 5), seed=seeds)
def test_an_engine_returns_what_the_lesson_must(kind, engine, size, batch_size, steps, seed):
    """And a second block starts from the same state as the first, though the model is the same one."""
    workload = kind(small_data(size, seed), batch_size, CPU, engine=engine)
    steps = workload.block(min(steps, workload.most_steps))
    found = [workload.prepare(steps)() for _ in range(2)]
    workload.check(found[0], workload.expected(steps))
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_an_epoch_has_no_other_images_than_its_batches():
    """So that its order is that of a data set with as many images; and its name says whose it is."""
    data, seen = small_data(), []
    workload = EpochWorkload(data, 8, CPU, engine="resident")
    with pytest.MonkeyPatch.context() as patch:
        make = resident.make_loaders
        patch.setattr(resident, "make_loaders", lambda given, *a, **k: seen.append(given) or make(given, *a, **k))
        workload.prepare(3)
    assert torch.equal(seen[0].train.data, data.train.data[:24])
    assert torch.equal(seen[0].train.targets, data.train.targets[:24])
    assert len(data.train.data) == 48
    assert workload.name == "resident epoch"
    assert workload.prepare_s > 0


def test_blocks_of_any_length_need_one_function():
    """An engine that makes several steps at once gets one step more than a multiple of them, if there are so many."""
    few = EpochWorkload(small_data(48), 1, CPU, engine="compiled")
    assert few.at_once == compiled.AT_ONCE == 8
    assert [few.block(steps) for steps in (1, 2, 9, 10, 40, 48)] == [1, 9, 9, 17, 41, 48]
    assert [EpochWorkload(small_data(48), 1, CPU, engine="resident").block(steps) for steps in (1, 2, 9)] == [1, 2, 9]
    for steps in (9, 17, 41):
        assert compiled._best_steps(steps - compiled.LEAD) == 8
    assert contract.load("handwritten") is handwritten
